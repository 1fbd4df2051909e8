"""The list of the real programs."""
from commands import Gcc, Ghostscript, Git, Lua, Node, Perl, Python, Sqlite, Z3
from servers import Mariadb, Postgres, Redis

PROGRAMS = [Python(), Gcc(), Sqlite(), Redis(), Perl(), Git(), Node(), Mariadb(), Ghostscript(), Z3(), Lua(), Postgres()]

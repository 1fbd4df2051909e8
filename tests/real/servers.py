"""The real programs that are servers: what is measured is how they serve clients, over sockets in the run's own folder."""
import concurrent.futures
import glob
import os
import subprocess

from measuring import JOBS, Failure, find, identity
from program import FULL, Program


class Redis(Program):
    """Debian's redis-server links jemalloc but calls plain malloc, so a preload takes; the baseline is glibc's malloc, which
    has to be put before jemalloc in the same way. The server program is part of redis-tools, by another name."""

    name = "redis"
    about = "redis-server under redis-benchmark, a snapshot by fork, reload"
    executables = ("redis-check-rdb", "redis-cli", "redis-benchmark")
    packages = ("redis-tools",)
    links_allocator = True

    def server_file(self, folder):
        # What it is called by decides whether it is the server.
        link = folder / "redis-server"
        if not link.exists():
            link.symlink_to(find("redis-check-rdb"))
        return link

    def target(self):
        return os.path.realpath(find("redis-check-rdb"))

    def process_names(self):
        return {"redis-server"}

    def small_command(self, folder):
        return ["./" + self.server_file(folder).name, "--version"]

    def prepare(self, shared, scale):
        lines = []
        for i in range(20000 if scale == FULL else 5000):
            lines.append("SET string:{} {}".format(i, "v" * (i * 7 % 900 + 1)))
            lines.append("HSET hash:{} field{} {} other{} {}".format(i % 700, i, i * i, i % 13, "w" * (i % 120)))
            lines.append("ZADD set:{} {} member{}".format(i % 90, i * 31 % 1009, i))
            lines.append("LPUSH list:{} {}".format(i % 60, "e" * (i * 13 % 300 + 1)))
            lines.append("APPEND text:{} {}".format(i % 20, "a" * (i % 50 + 1)))
            if i % 5 == 0:
                lines.append("DEL string:{}".format(i // 2))
                lines.append("XADD stream:{} {}-1 key {}".format(i % 9, i + 1, i))
                lines.append("EVAL 'local t = {{}} for i = 1, 50 do t[i] = i .. KEYS[1] end return #table.concat(t)' 1 k{}".format(i))
        (shared / "commands").write_text("\n".join(lines) + "\n")

    def run(self, run):
        socket = run.folder / "socket"
        ask = [find("redis-cli"), "-s", socket]

        def is_ready():
            return socket.exists() and subprocess.run(
                [*map(str, ask), "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

        server = run.server(
            [self.server_file(run.folder), "--port", "0", "--unixsocket", socket, "--save", "", "--enable-debug-command", "local",
             "--dir", run.folder], is_ready)
        load = [find("redis-benchmark"), "-s", socket, "-q", "-c", "50", "-P", "16", "-n", 120000 if run.scale == FULL else 20000]
        output = []
        with run.timed():
            run.client([*load, "-r", "100000", "-d", "16", "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100"])
            run.client([*load, "-r", "50000", "-d", "700", "-t", "set,get,mset,hset"])
            run.client([*ask, "bgsave"])
            run.client([*ask, "flushall"])
            output.append(run.client(ask, stdin=run.shared / "commands"))
            output.append(run.client([*ask, "debug", "digest"]))
            self.wait_for_snapshot(run, ask)
            output.append(run.client([*ask, "debug", "reload"]))
            output.append(run.client([*ask, "debug", "digest"]))
            output.append(run.client([*ask, "dbsize"]))
        run.stop(server)
        return "".join(output)

    @staticmethod
    def wait_for_snapshot(run, ask):
        while "rdb_bgsave_in_progress:1" in run.client([*ask, "info", "persistence"]):
            pass
        if "rdb_last_bgsave_status:ok" not in run.client([*ask, "info", "persistence"]):
            raise Failure("the snapshot failed\n" + run.servers[0].evidence())


class Mariadb(Program):
    name = "mariadb"
    about = "MariaDB server, a thread for each of eight clients that come and go"
    executables = ("mariadbd", "mariadb")
    packages = ("mariadb-server-core", "mariadb-client-core")
    clients = 8

    def small_command(self, folder):
        return [self.target(), "--no-defaults", "--version"]

    def prepare(self, shared, scale):
        (shared / "setup.sql").write_text(
            "CREATE DATABASE job; USE job;\n"
            "CREATE TABLE common(id INT PRIMARY KEY, parent INT, word VARCHAR(60), KEY(parent));\n"
            "INSERT INTO common SELECT seq, seq % 97, CONCAT('word', seq % 333, REPEAT('x', seq % 40)) FROM seq_1_to_5000;\n")
        for client in range(self.clients):
            lines = ["USE job;", "SET SESSION group_concat_max_len = 100000;"]
            for step in range(70 if scale == FULL else 15):
                table = "t{}_{}".format(client, step % 4)
                n = client * 1000 + step
                lines += [
                    "CREATE OR REPLACE TABLE {} (id INT PRIMARY KEY, k INT, body TEXT, KEY(k)) ENGINE=InnoDB;".format(table),
                    "INSERT INTO {} VALUES {};".format(table, ",".join(
                        "({},{},'{}')".format(i, i * n % 37, "text%d " % i * (i % 30 + 1)) for i in range(120))),
                    "UPDATE {} SET body = CONCAT(body, UPPER(body)), k = k + {} WHERE k < 20;".format(table, n % 7),
                    "SELECT k, COUNT(*), SUM(LENGTH(body)), LENGTH(GROUP_CONCAT(body ORDER BY id)) FROM {} GROUP BY k "
                    "ORDER BY k LIMIT 5;".format(table),
                    "SELECT c.word, JSON_LENGTH(JSON_ARRAYAGG(t.id)) n, MAX(t.body RLIKE 'text1[0-9]') FROM common c JOIN {} t ON "
                    "c.parent = t.k GROUP BY c.word ORDER BY n DESC, c.word LIMIT 4;".format(table),
                    "PREPARE p FROM 'SELECT COUNT(*) FROM common WHERE word LIKE ? AND id IN ({})';".format(
                        ",".join(str(i * n % 5000) for i in range(100))),
                    "SET @w = 'word{}%'; EXECUTE p USING @w; DEALLOCATE PREPARE p;".format(n % 10),
                    "DELETE FROM {} WHERE id % 3 = {};".format(table, n % 3),
                    "SELECT COUNT(*), MD5(GROUP_CONCAT(body ORDER BY id)) FROM {};".format(table),
                ]
                lines += ["SELECT id, word, {} AS a{} FROM common WHERE id = {};".format(n + i, i, (n * 7 + i) % 5000 + 1)
                          for i in range(40)]
            # Each client comes back several times: threads end and begin.
            parts = 5
            for part in range(parts):
                start = len(lines) * part // parts
                text = (["USE job;"] if part else []) + lines[start:len(lines) * (part + 1) // parts]
                (shared / "client{}.{}.sql".format(client, part)).write_text("\n".join(text) + "\n")

    def run(self, run):
        socket = run.folder / "socket"
        (run.folder / "data").mkdir()
        ask = [find("mariadb"), "--no-defaults", "--socket", socket, "--batch", "--user", "root"]

        def is_ready():
            return socket.exists() and subprocess.run(
                [*map(str, ask), "-e", "select 1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

        server = run.server(
            [self.target(), "--no-defaults", "--datadir", run.folder / "data", "--socket", socket, "--skip-networking",
             "--skip-grant-tables", "--pid-file", run.folder / "pid", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M",
             "--innodb-flush-log-at-trx-commit=0", "--innodb-use-native-aio=0", "--aria-log-file-size=8M", "--thread-cache-size=0",
             "--skip-stack-trace", *(["--user=root"] if os.geteuid() == 0 else [])], is_ready)
        run.client(ask, stdin=run.shared / "setup.sql")

        def client(number):
            parts = sorted(run.shared.glob("client{}.*.sql".format(number)))
            return "".join(run.client(ask, stdin=part) for part in parts)

        with run.timed(), concurrent.futures.ThreadPoolExecutor(self.clients) as pool:
            output = list(pool.map(client, range(self.clients)))
        run.stop(server)
        return "".join(output)


class Postgres(Program):
    """A process for each client: pgbench's transactions, then queries of one session. Of its programs, Debian puts only
    wrappers on the PATH."""

    name = "postgres"
    about = "PostgreSQL under pgbench with eight clients, then sorts, joins, JSON, PL/pgSQL"
    executables = ("postgres", "initdb", "pgbench", "psql")
    packages = ("postgresql-15",)
    refuses_root = True

    @staticmethod
    def tool(name):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name))
        return found[-1] if found else None

    def missing(self):
        return ", ".join(name for name in self.executables if not self.tool(name))

    def target(self):
        return self.tool("postgres")

    def small_command(self, folder):
        return [self.target(), "--version"]

    def prepare(self, shared, scale):
        done = subprocess.run([self.tool("initdb"), "--pgdata", shared / "data", "--username=job", "--auth=trust", "--locale=C",
                               "--encoding=UTF8", "--no-sync"], env={"PATH": "/usr/bin:/bin"}, cwd=shared, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **identity(self))
        if done.returncode != 0:
            raise Failure("initdb: exit status {}\n{}".format(done.returncode, done.stdout))

    def run(self, run):
        data = run.folder / "data"
        run.client(["cp", "-r", run.shared / "data", data], **identity(self))
        settings = ("listen_addresses=", "unix_socket_directories=" + str(run.folder), "fsync=off", "synchronous_commit=off",
                    "autovacuum=off", "full_page_writes=off", "shared_buffers=32MB", "dynamic_shared_memory_type=mmap")
        where = ["--host", run.folder, "--username", "job"]
        ask = [self.tool("psql"), *where, "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-v",
               "rows={}".format(60000 if run.scale == FULL else 10000), "postgres"]
        bench = [self.tool("pgbench"), *where]

        def is_ready():
            return subprocess.run([*map(str, ask), "-c", "SELECT 1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).returncode == 0

        server = run.server([self.target(), "-D", data, *(word for each in settings for word in ("-c", each))], is_ready)
        run.client([*bench, "--initialize", "--quiet", "--scale", 2 if run.scale == FULL else 1, "postgres"])
        with run.timed():
            # The same transactions on every run, in an order that is not; so their sums are the same.
            run.client([*bench, "--no-vacuum", "--client=8", "--jobs=2", "--random-seed=1", "--protocol=extended",
                        "--transactions={}".format(1500 if run.scale == FULL else 150), "postgres"])
            output = run.client(ask, stdin=JOBS / "reports.sql")
        run.stop(server)
        return output

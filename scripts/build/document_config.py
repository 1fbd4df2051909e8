"""Prints docs/configuration.md, made from the Kconfig files: python3 -I -B document_config.py, with srctree in the
environment."""
import os

os.environ.pop("CONFIG_", None)
from kconfiglib import BOOL, MENU, STRING, Choice, Kconfig, Symbol, expr_str

kconf = Kconfig("Kconfig", warn_to_stderr=False)


def parts_of_help(node):
    """The help text without the sentences that have a column of their own, and the cost."""
    text = " ".join((node.help or "").split())
    text, _, cost = text.partition("Cost: ")
    return text.strip().replace("|", "\\|"), cost.strip().replace("|", "\\|")


def condition(expression):
    return "" if expression is kconf.y else " if " + expr_str(expression).replace("|", "\\|")


def defaults_of(sym):
    words = []
    for value, when in sym.defaults:
        text = value.name if isinstance(value, Symbol) and value.name else expr_str(value)
        when_text = condition(when) if expr_str(when) != expr_str(sym.direct_dep) else ""
        words.append(text + when_text)
    return ", else ".join(words) if words else "n" if sym.type == BOOL else ""


def range_of(sym):
    if sym.type == BOOL:
        return "y, n"
    if sym.type == STRING:
        return "text"
    words = []
    for low, high, when in sym.ranges:
        when_text = condition(when) if expr_str(when) != expr_str(sym.direct_dep) else ""
        words.append("{}..{}{}".format(low.name, high.name, when_text))
    return ", else ".join(words)


def cell_of_help(node, item):
    text, cost = parts_of_help(node)
    needs = "" if item.direct_dep is kconf.y else " Needs {}.".format(expr_str(item.direct_dep))
    return text + needs, cost


def symbol_row(sym, node):
    text, cost = cell_of_help(node, sym)
    print("| `{}` | {} | {} | {}. {} | {} |".format(sym.name, range_of(sym), defaults_of(sym), node.prompt[0], text, cost))


def table_head():
    print("\n| symbol | values | default | what it changes | cost |\n|---|---|---|---|---|")


def walk(node, in_table):
    while node:
        item = node.item
        if item == MENU:
            print("\n## {}".format(node.prompt[0]))
            walk(node.list, False)
            in_table = False
        elif isinstance(item, Choice):
            text, _ = cell_of_help(node, item)
            print("\n**{}** (one of the following). {}".format(node.prompt[0], text))
            table_head()
            chosen = [(sym.name + (condition(when))) for sym, when in item.defaults]
            for sym in item.syms:
                text, cost = parts_of_help(sym.nodes[0])
                default = "; ".join("y" + condition(when) for which, when in item.defaults if which is sym) or "n"
                if default == "y" and chosen[0] != sym.name:
                    default = "y otherwise"
                print("| `{}` | y, n | {} | {}. {} | {} |".format(sym.name, default, sym.nodes[0].prompt[0], text, cost))
            in_table = False
        elif isinstance(item, Symbol) and node.prompt:
            if not in_table:
                table_head()
                in_table = True
            symbol_row(item, node)
            # kconfiglib puts symbols below what they depend on
            walk_children(node)
        node = node.next


def walk_children(node):
    child = node.list
    while child:
        if isinstance(child.item, Symbol) and child.prompt:
            symbol_row(child.item, child)
        walk_children(child)
        child = child.next


print("""# Configuration

Made from the Kconfig files by `make docs`; change those, not this page.

`make fast_defconfig` or `make scale_defconfig` writes `.config`; `make menuconfig` or an editor changes it, and a wrong value
stops the build with one line that says what is allowed. In `.config` the names begin with `CONFIG_`. A number whose needs are
not met is 0 in the generated header. `make help` lists the other targets.""")
walk(kconf.top_node.list, False)

"""Each wrong .config stops the build with one line that names the symbol, the value and what is allowed."""
from _support import BuildTest, main, read, write

FAST = "CONFIG_HZ3_LANE_FAST=y\n"
SPARSE = "CONFIG_HZ3_REMOTE_SPARSE=y\n"

# name, text of .config, what the one line must contain
TABLE = (
    ("above the range", FAST + "CONFIG_HZ3_SHARDS=255\n", "CONFIG_HZ3_SHARDS=255: out of range; allowed: 1..254"),
    ("below the range", FAST + "CONFIG_HZ3_SHARDS=0\n", "CONFIG_HZ3_SHARDS=0: out of range; allowed: 1..254"),
    ("negative", FAST + "CONFIG_HZ3_SHARDS=-1\n", "CONFIG_HZ3_SHARDS=-1: out of range; allowed: 1..254"),
    ("beyond 64 bits", FAST + "CONFIG_HZ3_SHARDS=99999999999999999999\n", "allowed: 1..254"),
    ("octal", FAST + "CONFIG_HZ3_SHARDS=010\n", "CONFIG_HZ3_SHARDS=010: not a plain decimal number; allowed: 1..254"),
    ("hexadecimal", FAST + "CONFIG_HZ3_SHARDS=0x10\n", "CONFIG_HZ3_SHARDS=0x10: not a plain decimal number; allowed: 1..254"),
    ("plus sign", FAST + "CONFIG_HZ3_SHARDS=+8\n", "CONFIG_HZ3_SHARDS=+8: not a plain decimal number; allowed: 1..254"),
    ("fraction", FAST + "CONFIG_HZ3_SHARDS=8.5\n", "CONFIG_HZ3_SHARDS=8.5: not a plain decimal number; allowed: 1..254"),
    ("unit", FAST + "CONFIG_HZ3_REFILL_KIB=16k\n", "CONFIG_HZ3_REFILL_KIB=16k: not a plain decimal number; allowed: 1..256"),
    ("empty number", FAST + "CONFIG_HZ3_SHARDS=\n", "CONFIG_HZ3_SHARDS=: not a plain decimal number; allowed: 1..254"),
    ("quoted number", FAST + 'CONFIG_HZ3_SHARDS="8"\n', 'CONFIG_HZ3_SHARDS="8": not a plain decimal number; allowed: 1..254'),
    ("space after the number", FAST + "CONFIG_HZ3_SHARDS=8 \n", "CONFIG_HZ3_SHARDS=8 : not a plain decimal number"),
    ("carriage return", FAST + "CONFIG_HZ3_SHARDS=8\r\n", "malformed line 'CONFIG_HZ3_SHARDS=8\\r'"),
    ("y for a number", FAST + "CONFIG_HZ3_SHARDS=y\n", "CONFIG_HZ3_SHARDS=y: not a plain decimal number; allowed: 1..254"),
    ("number that is unset", FAST + "# CONFIG_HZ3_SHARDS is not set\n", "CONFIG_HZ3_SHARDS is not set: not a bool; allowed: 1..254"),
    ("no power of two", FAST + "CONFIG_HZ3_SEGMENT_MIB=3\n", "CONFIG_HZ3_SEGMENT_MIB=3: out of range; allowed: 1..32, a power of two"),
    ("no power of two in a ring", FAST + SPARSE + "CONFIG_HZ3_REMOTE_RING_SLOTS=1000\n", "allowed: 64..8192, a power of two"),
    ("no multiple", FAST + "CONFIG_HZ3_SMALL_RUN_KIB=30\n", "CONFIG_HZ3_SMALL_RUN_KIB=30: out of range; allowed: 4..128, a multiple of 4"),
    ("range that depends", FAST + "CONFIG_HZ3_SEGMENT_MIB=1\nCONFIG_HZ3_SPAN_MIN_KIB=1024\n", "CONFIG_HZ3_SPAN_MIN_KIB=1024: out of range; allowed: 512..512"),
    ("segments of a small arena", FAST + "CONFIG_HZ3_ARENA_GIB=3\nCONFIG_HZ3_SEGMENT_MIB=8\n", "CONFIG_HZ3_SEGMENT_MIB=8: out of range; allowed: 1..4, a power of two"),
    ("number for a bool", FAST + "CONFIG_HZ3_DEBUG_CHECKS=1\n", "CONFIG_HZ3_DEBUG_CHECKS=1: not a bool; allowed: y or n"),
    ("module", FAST + "CONFIG_HZ3_DEBUG_CHECKS=m\n", "CONFIG_HZ3_DEBUG_CHECKS=m: not a bool; allowed: y or n"),
    ("upper case", FAST + "CONFIG_HZ3_DEBUG_CHECKS=Y\n", "CONFIG_HZ3_DEBUG_CHECKS=Y: not a bool; allowed: y or n"),
    ("unknown symbol", FAST + "CONFIG_HZ3_NO_SUCH=1\n", "CONFIG_HZ3_NO_SUCH=1: unknown symbol"),
    ("misspelt symbol", FAST + "CONFIG_HZ3_SHARD=8\n", "CONFIG_HZ3_SHARD=8: unknown symbol, did you mean CONFIG_HZ3_SHARDS?"),
    ("unknown symbol unset", FAST + "# CONFIG_HZ3_NO_SUCH is not set\n", "CONFIG_HZ3_NO_SUCH=n: unknown symbol"),
    ("two of a choice", FAST + "CONFIG_HZ3_LANE_SCALE=y\n", "CONFIG_HZ3_LANE_SCALE=y: CONFIG_HZ3_LANE_FAST is set, too; allowed: one of HZ3_LANE_FAST, HZ3_LANE_SCALE"),
    ("none of a choice", "# CONFIG_HZ3_LANE_FAST is not set\n# CONFIG_HZ3_LANE_SCALE is not set\n", "CONFIG_HZ3_LANE_FAST=n: nothing is set in the choice HZ3_LANE; allowed: one of"),
    ("set twice", FAST + "CONFIG_HZ3_SHARDS=8\nCONFIG_HZ3_SHARDS=9\n", "CONFIG_HZ3_SHARDS=9: set twice, already to 8 in line 2"),
    ("set and unset", FAST + "# CONFIG_HZ3_LANE_FAST is not set\n", "CONFIG_HZ3_LANE_FAST=n: set twice, already to y in line 1"),
    ("no dependency", FAST + "CONFIG_HZ3_REMOTE_RING_SLOTS=1024\n", "CONFIG_HZ3_REMOTE_RING_SLOTS=1024: has no effect, it needs HZ3_REMOTE_SPARSE"),
    ("text without quotes", FAST + "CONFIG_HZ3_LANE_NAME=fast\n", "CONFIG_HZ3_LANE_NAME=fast: not a text in double quotes"),
    ("text without end", FAST + 'CONFIG_HZ3_LANE_NAME="fast\n', 'CONFIG_HZ3_LANE_NAME="fast: not a text in double quotes'),
    ("text with a slash", FAST + 'CONFIG_HZ3_LANE_NAME="../fast"\n', "CONFIG_HZ3_LANE_NAME=../fast: wrong text; allowed: "),
    ("empty text", FAST + 'CONFIG_HZ3_LANE_NAME=""\n', "CONFIG_HZ3_LANE_NAME=: wrong text; allowed: "),
    ("no prefix", FAST + "HZ3_SHARDS=8\n", "malformed line 'HZ3_SHARDS=8'"),
    ("spaces around =", FAST + "CONFIG_HZ3_SHARDS = 8\n", "malformed line 'CONFIG_HZ3_SHARDS = 8'"),
    ("space at the start", FAST + " CONFIG_HZ3_SHARDS=8\n", "malformed line ' CONFIG_HZ3_SHARDS=8'"),
    ("no value", FAST + "CONFIG_HZ3_SHARDS\n", "malformed line 'CONFIG_HZ3_SHARDS'"),
    ("export", FAST + "export CONFIG_HZ3_SHARDS=8\n", "malformed line 'export CONFIG_HZ3_SHARDS=8'"),
    ("comment with more", FAST + "# CONFIG_HZ3_DEBUG_CHECKS is not set now\n", "malformed line"),
    ("conflict marker", FAST + "<<<<<<< HEAD\n", "malformed line '<<<<<<< HEAD'"),
    ("C", "#define CONFIG_HZ3_SHARDS 8\nCONFIG_HZ3_SHARDS;\n", "malformed line 'CONFIG_HZ3_SHARDS;'"),
    ("not ASCII", FAST + "CONFIG_HZ3_SHARDS=\u0668\n", "malformed line: a byte that is not ASCII"),
    ("two mistakes", FAST + "CONFIG_HZ3_SHARDS=010\nCONFIG_HZ3_NO_SUCH=y\n", "CONFIG_HZ3_SHARDS=010: not a plain decimal number; allowed: 1..254 (and 1 more)"),
)


class BadConfigs(BuildTest):
    def stops(self, message, *arguments):
        answer = self.make(*arguments, fails=True)
        self.assertEqual(answer.count("\n"), 1, answer)
        self.assertIn(message, answer)
        self.assertIn("Stop.", answer)
        return answer

    def test_table_is_long_enough(self):
        self.assertGreaterEqual(len(TABLE), 20)

    def test_missing(self):
        self.stops("make one with `make fast_defconfig`", "O=" + self.folder + "/none")

    def test_is_a_folder(self):
        self.stops("", "O=" + self.folder + "/none", "KCONFIG_CONFIG=" + self.folder)

    def test_fragment_needs_a_configuration(self):
        self.stops("make one with `make fast_defconfig`", "O=" + self.folder + "/none", "debug.config")

    def test_unknown_defconfig(self):
        self.stops("no configs/nothing_defconfig", "nothing_defconfig")

    def test_stops_again_and_recovers(self):
        write(self.tree + "/.config", FAST + "CONFIG_HZ3_SHARDS=0\n")
        for _ in range(2):
            self.stops("CONFIG_HZ3_SHARDS=0")
        write(self.tree + "/.config", FAST)
        self.make()
        write(self.tree + "/.config", FAST + "CONFIG_HZ3_SHARDS=0\n")
        self.stops("CONFIG_HZ3_SHARDS=0")

    def test_olddefconfig_repairs(self):
        for name, text, _ in TABLE:
            if name == "not ASCII":
                continue
            with self.subTest(name):
                write(self.tree + "/.config", text)
                self.assertIn("repaired: ", self.make("olddefconfig"))
                self.assertNotIn("repaired: ", self.make("olddefconfig"))
                self.make("checkconfig")  # reads the configuration and builds nothing

    def test_wrong_defconfig_and_fragment(self):
        write(self.tree + "/configs/bad_defconfig", "CONFIG_HZ3_SHARDS=010\n")
        write(self.tree + "/configs/bad.config", "CONFIG_HZ3_NO_SUCH=y\n")
        before = self.make("fast_defconfig") and read(self.tree + "/.config")
        self.assertIn("CONFIG_HZ3_SHARDS=010", self.make("bad_defconfig", fails=True))
        self.assertIn("CONFIG_HZ3_NO_SUCH=y", self.make("bad.config", fails=True))
        self.assertEqual(read(self.tree + "/.config"), before)


def add(index, name, text, message):
    def test(self):
        write(self.tree + "/.config", text)
        self.stops(message)

    setattr(BadConfigs, "test_{:02}_{}".format(index, name.replace(" ", "_")), test)


for index, row in enumerate(TABLE):
    add(index, *row)

if __name__ == "__main__":
    main()

"""What a second make compiles: nothing, or the users of what changed."""
import os
import time

from _support import ROOT, BuildTest, main, read, write

REMOTE = ["hz3/remote/inbox.cpp", "hz3/remote/sparse_ring.cpp"]


class Rebuilds(BuildTest):
    def setUp(self):
        self.make("scale_defconfig")
        self.compiled("-j4")

    def all_sources(self):
        found = []
        for folder, _, names in os.walk(self.tree + "/hz3"):
            found += [os.path.relpath(os.path.join(folder, name[:-2] + ".cpp"), self.tree) for name in names if name.endswith(".o") and name != "dense_bank.o"]
        return sorted(found)

    def test_null_build_is_silent_and_quick(self):
        started = time.monotonic()
        self.assertEqual(self.compiled(), [])
        self.assertLess(time.monotonic() - started, 1)
        self.assertEqual(self.make("CXX=" + self.compiler), "")

    def test_null_build_of_the_tests(self):
        self.compiled("tests", "-j4")
        self.assertEqual(self.compiled("tests"), [])
        self.assertEqual(self.compiled("tests", "-j4", "V=1"), [])

    def test_touched_config_and_kconfig(self):
        os.utime(self.tree + "/.config")
        self.assertEqual(self.compiled(), [])
        os.utime(self.tree + "/hz3/Kconfig")
        self.assertEqual(self.compiled(), [])
        self.make("scale_defconfig")
        self.assertEqual(self.compiled(), [])

    def test_symbol_of_one_folder(self):
        self.set_symbol("HZ3_REMOTE_RING_SLOTS", 512)
        self.assertEqual(self.compiled("-j4"), REMOTE + ["link"])
        self.assertEqual(self.compiled(), [])

    def test_symbol_behind_constants_of_one_user(self):
        self.set_symbol("HZ3_PURGE_DECAY_MS", 250)
        self.assertEqual(self.compiled("-j4"), ["hz3/purge.cpp", "link"])
        self.assertEqual(self.compiled(), [])

    def test_symbol_that_nobody_uses(self):
        self.set_symbol("HZ3_SHARDS", 16)
        self.assertEqual(self.compiled(), [])

    def test_symbol_that_all_use(self):
        self.set_symbol("HZ3_REFILL_BATCH", 16)
        self.assertEqual(self.compiled("-j4"), self.all_sources() + ["link"])

    def test_older_config_put_back(self):
        kept = read(self.tree + "/.config")
        self.set_symbol("HZ3_REMOTE_RING_SLOTS", 256)
        self.compiled("-j4")
        write(self.tree + "/.config", kept)
        os.utime(self.tree + "/.config", (1, 1))
        self.assertEqual(self.compiled("-j4"), REMOTE + ["link"])

    def test_changed_and_changed_back(self):
        kept = read(self.tree + "/.config")
        self.set_symbol("HZ3_REMOTE_RING_SLOTS", 256)
        write(self.tree + "/.config", kept)
        self.assertEqual(self.compiled(), [])

    def test_other_object_of_a_choice(self):
        self.make("fast_defconfig")
        compiled = self.compiled("-j4")
        self.assertIn("hz3/remote/dense_bank.cpp", compiled)
        self.assertNotIn("hz3/os.cpp", compiled)
        self.make("scale_defconfig")
        self.assertNotIn("hz3/os.cpp", self.compiled())

    def test_sources_and_headers(self):
        os.utime(self.tree + "/hz3/os.cpp")
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])
        os.utime(self.tree + "/hz3/remote/config.hpp")
        self.assertEqual(self.compiled(), REMOTE + ["link"])
        os.utime(self.tree + "/scripts/exports.map")
        self.assertEqual(self.compiled(), ["link"])

    def test_header_that_disappears(self):
        write(self.tree + "/hz3/gone.hpp", "\n")
        text = read(self.tree + "/hz3/os.cpp")
        write(self.tree + "/hz3/os.cpp", '#include "hz3/gone.hpp"\n' + text)
        self.compiled()
        os.remove(self.tree + "/hz3/gone.hpp")
        write(self.tree + "/hz3/os.cpp", text)
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])

    def test_flags(self):
        self.assertEqual(self.compiled("EXTRA_CXXFLAGS=-DX=1", "-j4"), self.all_sources() + ["link"])
        self.assertEqual(self.compiled("EXTRA_CXXFLAGS=-DX=1"), [])
        self.compiled("-j4")
        self.assertEqual(self.compiled("EXTRA_LDFLAGS=-Wl,-O1"), ["link"])

    def test_flags_of_one_object(self):
        path = self.tree + "/hz3/Makefile"
        text = read(path)
        self.addCleanup(write, path, text)
        write(path, text + "CXXFLAGS_hz3/os.o += -DSPECIAL='\"a b\"' '-DPOUND=\\#'\n")
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])
        self.assertEqual(self.compiled(), [])

    def test_other_compiler(self):
        os.utime(self.compiler)
        os.utime(self.compiler, (1, 1))
        self.assertEqual(self.compiled("-j4"), self.all_sources() + ["link"])

    def test_lost_object_and_lost_record(self):
        os.remove(self.tree + "/hz3/os.o")
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])
        os.remove(self.tree + "/hz3/.os.o.cmd")
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])

    def test_failed_compilation_is_repeated(self):
        text = read(self.tree + "/hz3/os.cpp")
        write(self.tree + "/hz3/os.cpp", "wrong\n")
        for _ in range(2):
            self.assertIn("hz3/os.cpp", self.make("CXX=" + self.compiler, fails=True))
        write(self.tree + "/hz3/os.cpp", text)
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])

    def test_new_symbol(self):
        kept = read(self.tree + "/hz3/Kconfig")
        source = read(self.tree + "/hz3/os.cpp")
        self.addCleanup(write, self.tree + "/hz3/Kconfig", kept)
        self.addCleanup(write, self.tree + "/hz3/os.cpp", source)
        write(self.tree + "/hz3/os.cpp", source + "int toy_new = CONFIG_HZ3_NEW;\n")
        self.make("CXX=" + self.compiler, fails=True)
        write(self.tree + "/hz3/Kconfig", kept + 'config HZ3_NEW\n\tint "new"\n\trange 1 3\n\tdefault 2\n')
        self.assertEqual(self.compiled(), ["hz3/os.cpp", "link"])
        write(self.tree + "/hz3/Kconfig", kept)
        self.make("CXX=" + self.compiler, fails=True)

    def test_mistakes_in_kconfig_and_object_lists(self):
        for name, text, message in (
            ("hz3/Kconfig", 'config HZ3_NEW\n\tint "new"\n\tdefault 2\n', "HZ3_NEW: an int needs a range"),
            ("hz3/Kconfig", 'config HZ3_NEW\n\tint "new"\n\trange 1 3\n', "HZ3_NEW: an int needs a default"),
            ("hz3/Kconfig", 'config HZ3_NEW\n\tint "new"\n\trange 1 3\n\tdefault 4\n', "default value 4 on HZ3_NEW"),
            ("hz3/Kconfig", 'config HZ3_NEW\n\ttristate "new"\n', "HZ3_NEW: only bool, int and string"),
            ("hz3/Makefile", "obj-$(CONFIG_HZ3_NO_SUCH) += os.o\n", "depends on a symbol that no Kconfig defines"),
        ):
            with self.subTest(text):
                kept = read(self.tree + "/" + name)
                write(self.tree + "/" + name, kept + text)
                try:
                    answer = self.make(fails=True)
                finally:
                    write(self.tree + "/" + name, kept)
                self.assertIn(message, answer)
                self.assertEqual(answer.count("\n"), 1, answer)

    def test_why(self):
        self.set_symbol("HZ3_REMOTE_RING_SLOTS", 128)
        self.assertIn("inbox.o - newer: include/config/HZ3_REMOTE_RING_SLOTS", self.make("V=2", "CXX=" + self.compiler))
        self.assertIn("os.o - the command differs", self.make("V=2", "CXX=" + self.compiler, "EXTRA_CXXFLAGS=-DY"))


class RealSources(BuildTest):
    """The toy cannot show that a constant's users are all found. Here symbol after symbol changes, each rebuilds a part, and in the
    end the library is the one that is built from nothing."""

    CHANGES = (("HZ3_REMOTE_RING_SLOTS", 256), ("HZ3_PURGE_DECAY_MS", 250))

    def build(self, out):
        write(self.calls, "")
        self.make("O=" + out, "CXX=" + self.compiler, "-j{}".format(os.cpu_count()), cwd=ROOT)
        return sorted(os.path.relpath(name, ROOT) for name in read(self.calls).split() if name.endswith(".cpp"))

    def test_part_by_part_is_as_from_nothing(self):
        step, clean = self.folder + "/step", self.folder + "/clean"
        for out in (step, clean):
            self.make("O=" + out, "scale_defconfig", cwd=ROOT)
        everything = self.build(step)
        self.assertGreater(len(everything), 20)
        for name, value in self.CHANGES:
            self.set_symbol(name, value, step + "/.config")
            rebuilt = self.build(step)
            print("{} rebuilds {}".format(name, " ".join(rebuilt)))
            self.assertTrue(rebuilt, name)
            self.assertLess(len(rebuilt), len(everything), name)
            if name == "HZ3_REMOTE_RING_SLOTS":
                self.assertIn("hz3/remote/sparse_ring.cpp", rebuilt)
            self.set_symbol(name, value, clean + "/.config")
        self.build(clean)
        with open(step + "/libhakozuna_hz3_scale.so", "rb") as one, open(clean + "/libhakozuna_hz3_scale.so", "rb") as other:
            self.assertTrue(one.read() == other.read(), "something that depends on a symbol was not rebuilt")


if __name__ == "__main__":
    main()

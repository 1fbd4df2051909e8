"""Writes a stream for `git fast-import`: COMMITS commits of a growing tree, the same on every machine."""
import random
import sys

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards vex blunt gods and pack my box with liquor jugs".split()


def line(rng):
    return " ".join(rng.choices(WORDS, k=rng.randint(0, 14)))


def main(commits, out):
    rng = random.Random(7)
    files = {}
    for number in range(1, commits + 1):
        changed = {}
        for _ in range(rng.randint(1, 8)):
            if len(files) < 20 or rng.random() < 0.25:
                path = f"{rng.choice(WORDS)}/{rng.choice(WORDS)}/{rng.choice(WORDS)}{number}.txt"
                files[path] = [line(rng) for _ in range(rng.randint(5, 400))]
            else:
                path = rng.choice(list(files))
                lines = files[path]
                for _ in range(rng.randint(1, 20)):
                    place = rng.randrange(len(lines))
                    lines[place:place + rng.randint(0, 2)] = [line(rng) for _ in range(rng.randint(0, 3))]
                    lines.append(line(rng))
            changed[path] = "\n".join(files[path]) + "\n"
        message = f"Commit {number}: {line(rng)}\n\n" + "\n".join(line(rng) for _ in range(rng.randint(0, 6)))
        person = f"{rng.choice(WORDS)} <{rng.choice(WORDS)}@example.org> {1600000000 + number * 3600} +0000"
        out.write(f"commit refs/heads/main\ncommitter {person}\ndata {len(message)}\n{message}\n")
        for path, text in changed.items():
            out.write(f"M 100644 inline {path}\ndata {len(text)}\n{text}\n")
    out.write("done\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdout)

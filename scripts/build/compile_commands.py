"""compile_commands.py OUTPUT FOLDER COMMAND...: writes compile_commands.json. Each command is one that make would run in
FOLDER; its last word is the source file."""
import json
import shlex
import sys

output, folder, *commands = sys.argv[1:]
entries = []
for command in commands:
    words = shlex.split(command)
    entries.append({"directory": folder, "arguments": words, "file": words[-1], "output": words[words.index("-o") + 1]})
with open(output, "w") as file:
    json.dump(entries, file, indent=1)
    file.write("\n")

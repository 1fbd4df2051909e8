#!/bin/sh
# The git job: reads the commits that repository.py generated, then log, diff, blame, branch and merge, repack and gc.
#   repository.sh STREAM          in an empty folder
set -eu
git init -q -b main .
git config user.name 'A U Thor'
git config user.email author@example.org
git config gc.autoDetach false
git config pack.threads 4
git fast-import --quiet <"$1"
git reset -q --hard main
git status --short
git log -p --stat -M main | sha256sum
git log --format='%h %an %s' --graph --all | sha256sum
git diff main~40 main | sha256sum
for file in $(git ls-files | sed -n '1~60p'); do
    git blame -w "$file" | sha256sum
done
git checkout -q -b side main~20
echo side >side.txt
git add side.txt
GIT_COMMITTER_DATE='1700000000 +0000' git commit -q --date='1700000000 +0000' -m side
git checkout -q main
GIT_COMMITTER_DATE='1700000001 +0000' GIT_AUTHOR_DATE='1700000001 +0000' git merge -q -m merge side
git rev-parse HEAD
git grep -c 'fox' main | sha256sum
git repack -q -a -d -f --depth=50 --window=20
git gc -q --prune=now
git fsck --full --strict 2>&1
git archive main | sha256sum
git clone -q --bare --no-hardlinks . copy.git
git -C copy.git rev-parse main
git rev-list --objects --all | wc -l

#!/usr/bin/env bash
# Copies what the last run published, and the run's record, to docs/results/NAME: `docs/results/collect.sh NAME`,
# from the root of the project. The tables come as CSV and Markdown, the page where it is under 5 MB.
set -euo pipefail
to=docs/results/$1
rm -rf "$to"
mkdir -p "$to/tables"
cp -r reports/claims.json reports/figures "$to"
cp reports/tables/*.csv reports/tables/*.md "$to/tables"
# Tables of what the run's profile does not measure are empty.
for table in "$to"/tables/*.csv; do
    if [ "$(wc -l < "$table")" -lt 2 ]; then
        rm "$table" "${table%.csv}.md"
    fi
done
if [ "$(stat -c %s reports/index.html)" -lt 5000000 ]; then
    cp reports/index.html "$to"
fi
"${DISSIM:-target/release/dissim}" show last --json > "$to/run.json"

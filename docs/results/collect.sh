#!/usr/bin/env bash
# Copies what the last run published, its record and what its tasks cost to docs/results/NAME, from the root of
# the project: `docs/results/collect.sh NAME`, with the run's `--profile` and `--set` behind it. The tables come
# as CSV and Markdown, the page where it is under 5 MB.
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
dissim=${DISSIM:-target/release/dissim}
"$dissim" show last --json > "$to/run.json"
for format in csv markdown; do
    "$dissim" query "${@:2}" --format $format "
        SELECT stage, COUNT(*) AS tasks, ROUND(SUM(seconds) / 3600, 2) AS hours,
               CAST(MAX(peak_memory_bytes) / 1000000 AS INT) AS peak_mb
        FROM tasks WHERE stage <> 'report' GROUP BY stage ORDER BY stage" > "$to/tables/cost.$format"
done
mv "$to/tables/cost.markdown" "$to/tables/cost.md"

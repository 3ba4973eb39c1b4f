#!/bin/bash
# A cohort on one machine, PARTS processes at a time: MODEL=saved_model SCANS=scans OUT=predictions PARTS=2 bash predict.sh
set -euo pipefail

status=0
seq 1 "$PARTS" | xargs -P "$PARTS" -I PART tfsono predict "$MODEL" "$SCANS" --out "$OUT" --part "PART/$PARTS" || status=$?
tfsono merge "$OUT"
exit "$status"

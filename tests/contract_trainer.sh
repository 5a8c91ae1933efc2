#!/bin/sh
# A trainer that knows the trial contract and nothing else of Kinase. It needs sh, sed, grep, cksum
# and, for S3, curl 7.88 or later. Where it sleeps, another one trains.
set -eu
trap 'asked=1' TERM # first of all: process 1 of a container gets no signal that it does not handle
asked='' stop='' epoch=0 value=null
tmp=$(mktemp -d)

end() { # CODE MESSAGE: the end, with a termination message
  [ "$1" = 0 ] || echo "$2" >&2
  if [ -n "${KINASE_TERMINATION_LOG:-}" ]; then
    printf '{"value": %s, "epochs": %d, "message": "%s"}' \
      "$value" "$epoch" "$2" > "$KINASE_TERMINATION_LOG"
  fi
  rm -rf "$tmp"
  exit "$1"
}

# What is in the job. A real trainer has a parser of JSON.
number() { printf '%s' "$1" | sed -n 's/.*"'"$2"'" *: *\([0-9][0-9]*\).*/\1/p'; }
string() { printf '%s' "$1" | sed -n 's/.*"'"$2"'" *: *"\([^"]*\)".*/\1/p'; }
holds() { printf '%s' "$1" | grep -q '"'"$2"'" *: *'"$3"; }
job=$(tr -d '\n' < "$KINASE_JOB") || end 2 'the job cannot be read'
[ "$(number "$job" version)" = 1 ] || end 2 'this trainer speaks version 1 of the contract'

# The store: a folder, or a bucket of S3 by path.
place=${KINASE_STORE#*://}
region=${KINASE_STORE_REGION:-us-east-1}
s3() { # KEY OPTION...: one request; its body goes to $tmp/got
  key=$1
  shift
  url="${KINASE_STORE_ENDPOINT:-https://s3.$region.amazonaws.com}/$place/$key"
  code=$(printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" |
    curl -s -K - --aws-sigv4 "aws:amz:$region:s3" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
      --retry 999 --retry-all-errors --retry-delay 2 \
      --retry-max-time "${KINASE_STORE_PATIENCE:-300}" \
      -o "$tmp/got" -w '%{http_code}' "$@" "$url") || code=000
  case $code in
  200) ;;
  404) return 1 ;;
  000 | 429 | 5??) end 75 "the store is out of reach ($code)" ;;
  *) end 2 "the store refuses $key ($code)" ;;
  esac
}
get() { # KEY: to $tmp/got; false if there is no such object
  case $KINASE_STORE in
  file://*) cp "$place/$1" "$tmp/got" 2> "$tmp/why" ;;
  *) s3 "$1" ;;
  esac
}
put() { # KEY TEXT: whole or not at all
  printf '%s' "$2" > "$tmp/new"
  case $KINASE_STORE in
  file://*)
    folder=$(dirname "$place/$1")
    mkdir -p "$folder" && cp "$tmp/new" "$folder/.new" && mv "$folder/.new" "$place/$1" ||
      end 75 "the store cannot be written"
    ;;
  *) s3 "$1" -T "$tmp/new" || end 2 'the bucket does not exist' ;;
  esac
}

# A task is described.
path=$(string "$job" path)
[ -z "$path" ] || [ -e "$path" ] || end 2 "task.path $path does not exist"
if holds "$job" describe true; then
  put "$(string "$job" key)" '{"input": [1, 8, 8], "outputs": 10, "train": 1000,
    "validation": 200, "test": 200, "metrics": ["val_accuracy"], "device": "cpu",
    "supports": ["until"]}'
  end 0 ''
fi

# A trial: its score is a digest of the job. It must not depend on the attempt, nor on its pauses.
trial=$(number "$job" trial)
attempt=$(number "$job" attempt)
prefix=$(string "$job" prefix)
epochs=$(number "$(printf '%s' "$job" | sed 's/.*"fidelity" *: *{\([^{}]*\).*/\1/')" epochs)
until=$(number "$job" until)
until=${until:-$epochs}
held=$(number "$job" done)
digest=$(printf '%s' "$job" | sed 's/"attempt" *: *[0-9]*//; s/, *"until" *: *[0-9]*//;
  s/, *"done" *: *[0-9]*//' | cksum | cut -d ' ' -f 1)
score() { printf '0.%03d' $((digest % 1000 * $1 / epochs)); }
head="\"version\": 1, \"trial\": $trial, \"attempt\": $attempt"

# The kept network is tested; what was measured before is not measured again.
if holds "$job" test true; then
  get "$prefix/test.json" ||
    put "$prefix/test.json" "{$head, \"outcome\": \"Succeeded\",
      \"metrics\": {\"test_accuracy\": $(score "$epochs")}}"
  end 0 ''
fi

# Once only: an earlier process may have left the result.
if get "$prefix/result.json"; then
  found=$(tr -d '\n' < "$tmp/got")
  if [ "$(number "$found" trial)" = "$trial" ]; then
    was=$(number "$found" attempt)
    ! holds "$found" outcome '"Succeeded"' || [ "$was" -gt "$attempt" ] || end 0 ''
    points=$(printf '%s' "$found" | grep -o '"epoch"' | wc -l)
    ! holds "$found" outcome '"Stopped"' || [ "$was" != "$attempt" ] || [ "$points" -ne "$until" ] ||
      end 0 ''
  fi
fi

# What earlier attempts spent, and where they came to.
begun=0 before=0 curve='' metrics=''
if get "$prefix/progress.json"; then
  spent=$(tr -d '\n' < "$tmp/got")
  begun=$(number "$spent" epochsBegun)
  before=$(number "$spent" deviceSeconds)
fi
if get "$prefix/checkpoint/last"; then
  epoch=$(sed -n 1p "$tmp/got")
  curve=$(sed -n 2p "$tmp/got")
fi
kept=$epoch
began=$(date +%s)
seconds() { echo $((before + $(date +%s) - began)); }
progress() {
  put "$prefix/progress.json" "{\"attempt\": $attempt, \"epochsBegun\": $begun,
    \"epochsDone\": $kept, \"samples\": $((begun * 1000)), \"deviceSeconds\": $(seconds),
    \"metrics\": {$metrics}}"
}

if [ "$epoch" -lt "${held:-0}" ]; then # what is missing was paid for once, and only once
  progress
  end 76 "the checkpoint holds $epoch of $held epochs"
fi

while [ "$epoch" -lt "$until" ] && [ -z "$stop" ]; do
  [ -z "$asked" ] || end 143 "ended by SIGTERM at the checkpoint of epoch $epoch"
  begun=$((begun + 1))
  progress # the epoch is charged before it starts
  sleep "${EPOCH_SECONDS:-1}" || true
  epoch=$((epoch + 1))
  metrics="\"val_accuracy\": $(score "$epoch")"
  [ "${KINASE_METRIC:-}" != val_accuracy ] || value=$(score "$epoch")
  point="\"epoch\": $epoch, \"metrics\": {$metrics}, \"deviceSeconds\": $(seconds)"
  curve="${curve:+$curve, }{$point}"
  if [ "$epoch" -lt "$epochs" ]; then # after the last epoch comes the result
    put "$prefix/checkpoint/last" "$epoch
$curve"
    kept=$epoch
  fi
  progress
  if [ -n "${KINASE_REPORT_URL:-}" ]; then # a hint: errors are ignored
    printf 'header = "Authorization: Bearer %s"\n' "${KINASE_REPORT_TOKEN:-}" |
      curl -s -K - -m 2 -H 'Content-Type: application/json' \
        -d "{\"attempt\": $attempt, $point}" "$KINASE_REPORT_URL" > "$tmp/answer" || true
    ! holds "$(head -c 1000 "$tmp/answer")" continue false || stop=1
  fi
done

outcome=Succeeded
[ "$epoch" -eq "$epochs" ] || outcome=Stopped
put "$prefix/result.json" "{$head, \"outcome\": \"$outcome\", \"metrics\": {$metrics},
  \"cost\": {\"epochs\": $begun, \"samples\": $((begun * 1000)), \"deviceSeconds\": $(seconds)},
  \"curve\": [$curve]}"
end 0 ''

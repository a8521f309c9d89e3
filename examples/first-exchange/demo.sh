#!/bin/sh
# The first exchange: two data holders, a consumer and a regulator, each a node process of its own on loopback.
#
#   demo.sh [--check] [--keep]
#
# --check  assert each step; exit non-zero unless all hold
# --keep   leave the nodes running until Ctrl-C, and print commands to try
#
# SHUYU_BIN      the command shuyu           SHUYU_FLIGHTS  flights-3m.parquet
set -u

here=$(cd "$(dirname "$0")" && pwd)
shuyu=${SHUYU_BIN:-shuyu}
flights=${SHUYU_FLIGHTS:-${SHUYU_DATA:-${XDG_CACHE_HOME:-$HOME/.cache}/shuyu/data}/flights-3m.parquet}
weather_csv=$here/../data/seattle-weather.csv
check= keep=
for arg in "$@"; do
    case $arg in
        --check) check=1 ;;
        --keep) keep=1 ;;
        *) echo "usage: demo.sh [--check] [--keep]" >&2; exit 64 ;;
    esac
done
command -v "$shuyu" >/dev/null 2>&1 || { echo "error: no command \`$shuyu\`" >&2; echo "hint: run ./x demo, or set SHUYU_BIN" >&2; exit 1; }
unset SHUYU_DIR SHUYU_URL SHUYU_KEY_FILE

if [ -t 1 ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') red=$(printf '\033[31m') green=$(printf '\033[32m') plain=$(printf '\033[0m')
else bold='' dim='' red='' green='' plain=''; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/shuyu-demo.XXXXXX")
pids=
stop() {
    trap - EXIT INT TERM
    for pid in $pids; do kill "$pid" 2>/dev/null; done
    for pid in $pids; do wait "$pid" 2>/dev/null; done
    if [ -n "${broken:-}" ]; then echo "logs of the nodes: $work/*.log" >&2; else rm -rf "$work"; fi
}
trap stop EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1

# --- telling and asserting -------------------------------------------------------------------------------------------
steps=0 held=0 step_ok=1 broken=
finish_step() {
    [ "$steps" -gt 0 ] || return 0
    if [ $step_ok = 1 ]; then held=$((held + 1)); [ -z "$check" ] || echo "   ${green}held${plain}"
    else broken=1; echo "   ${red}DID NOT HOLD${plain}"; fi
}
step() { finish_step; steps=$((steps + 1)); step_ok=1; printf '\n%s%2d. %s%s\n' "$bold" $steps "$*" "$plain"; }
tell() { echo "   $*"; }
fail() { step_ok=0; echo "   ${red}! $*${plain}"; }

# told COMMAND: the command as a person would type it.
told() {
    line='$ shuyu'
    for word in "$@"; do
        case $word in
            *"'"*) line="$line \"$word\"" ;;
            *[!A-Za-z0-9_./:=%,@+-]* | '') line="$line '$word'" ;;
            *) line="$line $word" ;;
        esac
    done
    echo "   $dim$line$plain"
}
# try NODE ARGS: runs shuyu as the owner of NODE; leaves $out, $err, $code.
try() {
    node=$1; shift
    "$shuyu" --dir "$node" "$@" >.out 2>.err
    code=$?
    out=$(cat .out) err=$(cat .err)
}
# show NODE ARGS: the same, showing the command and what it said.
show() { told --dir "$@"; try "$@"; show_output; }
show_output() { sed 's/^/     /' .out | head -n "${lines:-14}"; grep -v '^hint:' .err | sed 's/^/     /' | head -n 12; lines=; }
expect() { [ "$code" = "$1" ] || fail "exit code $code instead of $1: $(head -n 3 .err)"; }
expect_out() { printf '%s\n' "$out" | grep -Eq -- "$1" || fail "the answer does not show /$1/"; }
expect_err() { printf '%s\n' "$err" | grep -Eqi -- "$1" || fail "the message does not say /$1/"; }
expect_not() { printf '%s\n%s\n' "$out" "$err" | grep -Eq -- "$1" && fail "it shows /$1/"; return 0; }
# need NODE ARGS: a command without which nothing further makes sense.
need() {
    try "$@"
    [ "$code" = 0 ] && return 0
    fail "shuyu $* : exit code $code"; sed 's/^/     /' .err
    for log in *.log; do echo "--- $log"; tail -n 5 "$log"; done
    finish_step
    echo; echo "demo: $steps steps, $held held (stopped early)"
    exit 1
}

# --- which table the transport holder has ----------------------------------------------------------------------------
cp -r "$here/policies" policies
if [ -f "$flights" ]; then
    reduced= table=flights location=$flights total=3000000 visible=77758
    title='US domestic flights, first half of 2001' masked=destination mask=xxx denied=distance
    hidden_rows="origin = 'JFK'" a_masked_value="destination = 'LAX'"
    summary='SELECT origin, count(*) AS flights, round(avg(delay), 2) AS mean_delay FROM flights GROUP BY origin ORDER BY origin'
    summary_shows='SEA +50231'
    # 95 flights were 232 minutes late; none of them left Seattle or Portland.
    oracle='SELECT count(*) AS n FROM flights WHERE 1 / (delay - 232) < 5' oracle_plain='SELECT count(*) AS n FROM flights'
    bulk='SELECT * FROM flights'
    join="WITH late AS (SELECT date_part('month', date) AS month, date_part('day', date) AS day, count(*) AS flights, avg(delay) AS delay
        FROM flights WHERE origin = 'SEA' GROUP BY 1, 2),
      wet AS (SELECT date_part('month', date) AS month, date_part('day', date) AS day,
        sum(CASE WHEN weather = 'rain' THEN 1 ELSE 0 END) AS rainy_years FROM weather GROUP BY 1, 2)
      SELECT rainy_years, sum(flights) AS flights, round(sum(flights * delay) / sum(flights), 2) AS mean_delay
      FROM late JOIN wet ON late.month = wet.month AND late.day = wet.day GROUP BY rainy_years ORDER BY rainy_years"
    join_shows='3 +12602 +12.42'
    join_words='flights from Seattle in 2001 (transport), by how often it rained on that calendar day in 2012-2015 (weather)'
else
    reduced=1 table=observations location=$weather_csv total=1461 visible=731
    title='Days of weather, a second edition' masked=weather mask=xxxx denied=wind
    hidden_rows="date = DATE '2015-06-01'" a_masked_value="weather = 'rain'"
    summary="SELECT date_part('year', date) AS year, count(*) AS days FROM observations GROUP BY 1 ORDER BY 1"
    summary_shows='2012 +366'
    # 35.6 degrees was reached on a hidden day only.
    oracle='SELECT count(*) AS n FROM observations WHERE 1 / (CAST(temp_max * 10 AS BIGINT) - 356) < 5' oracle_plain='SELECT count(*) AS n FROM observations'
    bulk='SELECT a.* FROM observations a CROSS JOIN observations b'
    join="SELECT date_part('year', o.date) AS year, count(*) AS days, sum(CASE WHEN w.weather = 'rain' THEN 1 ELSE 0 END) AS rainy
      FROM observations o JOIN weather w ON o.date = w.date GROUP BY 1 ORDER BY 1"
    join_shows='2013 +365'
    join_words='visible days of the one holder (transport), with the kind of weather only the other shows (weather)'
    for file in policies/flights*.json; do
        sed -i "s/origin IN ('SEA', 'PDX')/date < DATE '2014-01-01'/; s/destination=/weather=/; s/\"distance\"/\"wind\"/" "$file"
    done
    echo "npm was out of reach, so the table of 3,000,000 flights is not here: both holders hold the Seattle weather table instead,"
    echo "under different policies. Every step is the same; the rows are fewer."
fi

# --- ports -----------------------------------------------------------------------------------------------------------
# is_free PORT: nothing in the kernel's tables has it, listening or not.
is_free() { ! grep -qis "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$1") " /proc/net/tcp /proc/net/tcp6; }
base=$((20000 + $$ % 900 * 13))
while :; do
    all_free=1
    for offset in 0 1 2 3 4 5 6 7 8 9 10 11; do is_free $((base + offset)) || all_free=; done
    [ -n "$all_free" ] && break
    base=$((base + 13))
done

start_node() { # DIR NAME ROLE OFFSET
    did="did:web:localhost%3A$((base + $4))"
    told init "$1" --name "$2" --did "$did" --role "$3" --insecure-loopback ...
    "$shuyu" init "$1" --name "$2" --did "$did" --role "$3" --insecure-loopback --listen 127.0.0.1:$((base + $4)) \
        --management 127.0.0.1:$((base + $4 + 1)) --flight 127.0.0.1:$((base + $4 + 2)) >/dev/null 2>.err || { fail "init $1: $(cat .err)"; return; }
    "$shuyu" run --dir "$1" >"$1.log" 2>&1 &
    pids="$pids $!"
    eval "$1_did=\$did $1_pid=$!"
}

step 'Four organisations start their nodes'
start_node transport 'Transport office' holder 0
start_node weather 'Weather service' holder 3
start_node lab 'City lab' consumer 6
start_node regulator 'Data regulator' regulator 9
for node in transport weather lab regulator; do need "$node" status --wait 60; expect_out 'did:web:localhost'; done
tell "transport $transport_did    weather $weather_did"
tell "lab       $lab_did    regulator $regulator_did"
show transport doctor; expect 0

step "The transport office publishes $total rows under a policy"
told policy check policies/flights.json
"$shuyu" policy check policies/flights.json >.out 2>.err; code=$?; out=$(cat .out); show_output; expect 0
"$shuyu" policy check policies/flights.json --lang zh >.out 2>.err; code=$?; out=$(cat .out); expect 0; tell "$(head -n 3 .out)"
show transport asset add $table --location "$location" --title "$title" --keyword transport --keyword delay; expect 0
show transport policy add research --file policies/flights.json; expect 0
show transport offer add --id research --asset $table --policy research --approve manual; expect 0
need transport policy add bulk --file policies/flights-bulk.json
need transport offer add --id bulk --asset $table --policy bulk

step 'The weather service publishes its table; every request within the policy is agreed to automatically'
show weather asset add weather --location "$weather_csv" --title 'Seattle weather 2012-2015' --keyword weather; expect 0
need weather policy add open --file policies/weather.json
show weather offer add --id open --asset weather --policy open; expect 0

step 'The lab finds the tables and reads their terms'
show lab catalog search "$transport_did" --where keyword=transport; expect 0; expect_out "$table"
lines=40 show lab catalog show "$weather_did" weather; expect 0; expect_out precipitation

step 'The lab asks for more than is offered; the transport office makes a counter-offer; they agree'
need lab negotiation start --provider "$transport_did" --dataset $table --offer research --policy policies/flights-wish.json --accept manual
negotiation=$out
told --dir lab negotiation start --provider "$transport_did" --dataset $table --offer research --policy policies/flights-wish.json --accept manual
tell "-> $negotiation: 1000 uses instead of 8, and \`$masked\` unmasked"
need lab negotiation wait "$negotiation" --for requested
try transport negotiation list --output json
theirs=$(printf '%s' "$out" | tr '{,' '\n\n' | sed -n 's/^ *"id" *: *"\([^"]*\)".*/\1/p' | head -n 1)
need transport negotiation wait "$theirs" --for requested
show transport negotiation counter "$theirs" --policy policies/flights-counter.json; expect 0
tell '-> 12 uses, and the mask stays'
need lab negotiation wait "$negotiation" --for offered
show lab negotiation approve "$negotiation"; expect 0
show lab negotiation wait "$negotiation"; expect 0
contract=$out
need transport negotiation wait "$theirs"
[ "$out" = "$contract" ] || fail "the parties name different contracts: $out and $contract"
lines=30 show lab contract show "$contract"; expect 0; expect_out 12

step 'The weather service agrees at once'
need lab negotiation start --provider "$weather_did" --dataset weather
show lab negotiation wait "$out"; expect 0
weather_contract=$out

step 'The lab asks in SQL and sees what the contract shows: some rows, one column masked'
show lab query "$summary" --contract "$contract" --purpose research/climate; expect 0; expect_out "$summary_shows"
show lab query "SELECT count(*) AS n, min($masked) AS least, max($masked) AS most FROM $table" --contract "$contract" --purpose research/climate
expect 0; expect_out "$visible"; expect_out "$mask"

step 'The lab downloads the governed table; the file is checked against its BLAKE3'
need lab transfer start --contract "$contract" --format http-pull
pull=$out
told --dir lab transfer start --contract "$contract" --format http-pull
show lab pull "$pull" -o visible.csv --format csv --purpose research/climate; expect 0
rows=$(($(wc -l <visible.csv) - 1))
tell "visible.csv: $rows rows, columns $(head -n 1 visible.csv)"
[ $rows = $visible ] || fail "$rows rows instead of $visible"
head -n 1 visible.csv | grep -q $denied && fail "the file has the column $denied"

step 'One query joins the tables of both holders, each governed by its own contract'
show lab query "$join" --contract "$contract" --contract "$weather_contract" --purpose research/climate
expect 0; expect_out "$join_shows"
tell "($join_words)"

step 'What the contract forbids is refused, each time with the reason'
show lab query "SELECT $denied FROM $table" --contract "$contract" --purpose research/climate
[ "$code" = 2 ] || [ "$code" = 3 ] || fail "exit code $code for a denied column"
expect_err "$denied"
show lab query "SELECT count(*) AS n FROM $table" --contract "$contract" --purpose marketing; expect 2; expect_err purpose
for statement in "DELETE FROM $table" "INSERT INTO $table SELECT * FROM $table" "COPY $table TO '/tmp/copy.csv'" "EXPLAIN ANALYZE $oracle_plain" "SELECT * FROM '/etc/passwd'"; do
    show lab query "$statement" --contract "$contract" --purpose research/climate
    [ "$code" = 2 ] || [ "$code" = 3 ] || fail "exit code $code for: $statement"
done
[ ! -e /tmp/copy.csv ] || fail '/tmp/copy.csv was written'
show lab contract explain "$contract" --purpose marketing; expect 2

step 'Rows and values that are hidden cannot be guessed at'
show lab query "SELECT count(*) AS n FROM $table WHERE $hidden_rows" --contract "$contract" --purpose research/climate; expect 0; expect_out '(^| )0( |$)'
show lab query "SELECT count(*) AS n FROM $table WHERE $a_masked_value" --contract "$contract" --purpose research/climate; expect 0; expect_out '(^| )0( |$)'
tell 'a division by zero that only a hidden row could cause must not happen:'
show lab query "$oracle" --contract "$contract" --purpose research/climate; expect 0; expect_out '[0-9]'; expect_not 'ivi(de|sion)'

step 'After twelve uses the contract is used up'
uses=0
while [ $uses -lt 13 ]; do
    try lab query "$oracle_plain" --contract "$contract" --purpose research/climate
    [ "$code" = 0 ] || break
    uses=$((uses + 1))
done
tell "$uses more were answered, then:"
told --dir lab query "$oracle_plain" --contract "$contract" --purpose research/climate; show_output; expect 2; expect_err 'at most 12 uses'
show transport contract show "$contract"; expect_out 'uses: +12$'

step 'Revocation cuts a running stream'
need lab negotiation start --provider "$transport_did" --dataset $table --offer bulk
need lab negotiation wait "$out"
bulk_contract=$out
mkfifo stream
told --dir lab query "$bulk" --contract "$bulk_contract" --purpose research/climate --format csv '|' ...
"$shuyu" --dir lab query "$bulk" --contract "$bulk_contract" --purpose research/climate --format csv >stream 2>.stream.err &
query=$!
exec 3<stream
got=$(head -c 65536 <&3 | wc -c)
tell "$got bytes have come, more are on their way, when the transport office revokes the contract:"
show transport contract revoke "$bulk_contract" --reason 'licence withdrawn'; expect 0
rest=$(wc -l <&3)
exec 3<&-
wait $query; code=$?
err=$(cat .stream.err); cp .stream.err .err; : >.out
show_output; expect 2; expect_err 'revoked|withdrawn'
tell "the stream ended after about $rest rows"
try lab query "$oracle_plain" --contract "$bulk_contract" --purpose research/climate; expect 2

step 'The regulator verifies the whole story, off line'
for did in "$transport_did" "$weather_did" "$lab_did"; do need regulator audit follow "$did"; done
show regulator audit sync; expect 0
lines=20 show regulator audit report; expect 0
show regulator audit bundle make --file story.bundle.json; expect 0
told audit bundle verify story.bundle.json
"$shuyu" audit bundle verify story.bundle.json >.out 2>.err; code=$?; out=$(cat .out); err=$(cat .err); show_output; expect 0

step 'A tampered ledger is caught, and the proof is a file'
cp -r transport/ledger tampered
told ledger verify tampered --node "$transport_did"
"$shuyu" ledger verify tampered --node "$transport_did" >.out 2>.err; code=$?; out=$(cat .out); show_output; expect 0
victim=tampered/tlog/tile/entries/000.p/$(sed -n 2p tampered/tlog/checkpoint)
[ -f "$victim" ] || fail "there is no $victim"
size=$(wc -c <"$victim")
at=$((size / 2))
was=$(dd if="$victim" bs=1 skip=$at count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
# shellcheck disable=SC2059 # the format is the byte, in octal
printf "\\$(printf '%03o' $((was ^ 1)))" | dd of="$victim" bs=1 seek=$at conv=notrunc 2>/dev/null
tell "one bit of $victim is flipped"
told ledger verify tampered --node "$transport_did" --proof tampered.bundle.json
"$shuyu" ledger verify tampered --node "$transport_did" --proof tampered.bundle.json >.out 2>.err; code=$?; out=$(cat .out); err=$(cat .err); show_output; expect 2
[ -s tampered.bundle.json ] || fail 'no proof was written'
told audit bundle verify tampered.bundle.json
"$shuyu" audit bundle verify tampered.bundle.json >.out 2>.err; code=$?; out=$(cat .out); err=$(cat .err); show_output; expect 2

finish_step
echo
[ -z "$reduced" ] || echo "(reduced: the weather table stood in for the flights)"
echo "demo: $steps steps, $held held"

if [ -n "$keep" ]; then
    cat <<E

The nodes are running in $work. Try:
  cd $work
  alias shuyu=$shuyu
  shuyu --dir lab contract list
  shuyu --dir lab query 'SELECT * FROM weather LIMIT 5' --contract $weather_contract --purpose research
  shuyu --dir transport ledger tail
  shuyu --dir transport ledger prove 0
  shuyu --dir lab negotiation start --provider $transport_did --dataset $table --offer bulk
  shuyu --dir regulator audit sync && shuyu --dir regulator audit report
  curl http://localhost:$base/.well-known/did.json
Ctrl-C stops them.
E
    [ -z "$broken" ] || echo "$((steps - held)) steps did not hold"
    wait
fi
[ $held = $steps ]

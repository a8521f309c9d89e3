"""Clients that others wrote read a governed table: pyarrow.flight, adbc_driver_flightsql and curl. One table is in an object
store that speaks S3 (moto). A COSE receipt of the ledger is verified by scitt-cose.

Two nodes are started with the command in SHUYU_BIN, and a contract is made between them. One line a check; the last line
is `clients: N passed, N failed`, and the exit code is 1 when one failed.
"""

import base64
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi
import pyarrow as pa
import pyarrow.csv
import pyarrow.flight as flight
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from moto.server import ThreadedMotoServer
from scitt_cose.receipt import verify_receipt

SHUYU = os.environ.get("SHUYU_BIN") or shutil.which("shuyu")
WEATHER = pathlib.Path(__file__).resolve().parents[2] / "examples/data/seattle-weather.csv"
ROWS = 1461
PURPOSE = "research"
COLUMNS = ["date", "precipitation", "temp_max", "temp_min", "weather"]  # and `wind`, which the contract denies
POLICY = {
    "@context": ["http://www.w3.org/ns/odrl.jsonld", {"shuyu": "https://w3id.org/shuyu/profile/1#"}],
    "@id": "urn:shuyu:clients:policy",
    "@type": "Set",
    "profile": "https://w3id.org/shuyu/profile/1",
    "permission": [
        {
            "action": "use",
            "constraint": [
                {"leftOperand": "purpose", "operator": "isA", "rightOperand": PURPOSE},
                {"leftOperand": "shuyu:columnDeny", "operator": "eq", "rightOperand": "wind"},
            ],
        }
    ],
}

passed = failed = 0


def check(name, holds, seen=""):
    """Counts and tells one check."""
    global passed, failed
    if holds:
        passed += 1
        print(f"ok   {name}")
    else:
        failed += 1
        print(f"FAIL {name}: {str(seen)[:500]}")


def refused(name, words, act):
    """Counts a check that `act` raises an error which says one of `words`."""
    try:
        answer = act()
    except Exception as error:  # every library has its own classes
        check(name, any(word in str(error) for word in words), error)
    else:
        check(name, False, f"not refused: {answer}")


# --- two nodes and a contract ----------------------------------------------------------------------------------------


def free_port(ports=iter(range(12000 + os.getpid() % 900 * 20, 32000))):
    """A port outside the range from which the system takes ports for outgoing connections."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no free port")


def shuyu(*arguments):
    """Runs a command that must succeed; its stdout."""
    done = subprocess.run([SHUYU, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"shuyu {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout.strip()


def start(directory, role, processes, settings=""):
    """Makes and starts a node, with more settings; its DID."""
    public, management, flight_port = free_port(), free_port(), free_port()
    did = f"did:web:localhost%3A{public}"
    sockets = {"--listen": public, "--management": management, "--flight": flight_port}
    addresses = [word for name, port in sockets.items() for word in (name, f"127.0.0.1:{port}")]
    shuyu("init", directory, "--name", role, "--did", did, "--role", role, "--insecure-loopback", *addresses)
    with open(pathlib.Path(directory) / "shuyu.toml", "a") as config:
        config.write(settings)
    log = open(f"{directory}.log", "w")
    processes.append(subprocess.Popen([SHUYU, "run", "--dir", directory], stdout=log, stderr=log))
    shuyu("--dir", directory, "status", "--wait", 60)
    return did


class Consumer:
    """A consumer node with a contract, and the access that its clients get."""

    def __init__(self, directory, did, processes):
        start(directory, "consumer", processes)
        self.directory, self.provider = directory, did
        self.contract = self.agree("weather")

    def agree(self, dataset):
        start = ["negotiation", "start", "--provider", self.provider, "--dataset", dataset]
        return shuyu("--dir", self.directory, "negotiation", "wait", shuyu("--dir", self.directory, *start))

    def access(self, way, contract=None):
        start = ["transfer", "start", "--contract", contract or self.contract, "--format", way]
        transfer = shuyu("--dir", self.directory, *start)
        key = (pathlib.Path(self.directory) / "management.key").read_text().strip()
        base = json.loads(shuyu("--dir", self.directory, "status", "--output", "json"))["management_url"]
        # The CLI keeps tokens to itself; a program asks the management API.
        answer = curl(f"{base}/v1/transfers/{transfer}/access", "--header", f"Authorization: Bearer {key}")
        return json.loads(answer.stdout)


# --- pyarrow.flight --------------------------------------------------------------------------------------------------


def field(number, data):
    """A length-delimited protobuf field."""
    size, prefix = len(data), bytearray([number << 3 | 2])
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes(prefix + bytearray([size])) + data


def statement(sql):
    """A Flight SQL CommandStatementQuery in an Any; pyarrow has no Flight SQL of its own."""
    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return flight.FlightDescriptor.for_command(field(1, url) + field(2, field(1, sql.encode())))


def options(bearer, purpose=PURPOSE):
    headers = [(b"authorization", f"Bearer {bearer}".encode())]
    if purpose:
        headers.append((b"shuyu-purpose", purpose.encode()))
    return flight.FlightCallOptions(headers=headers, timeout=60)


def pyarrow_checks(access, thief):
    client = flight.connect(access["flight_endpoint"])
    ours = options(access["bearer"])
    info = client.get_flight_info(statement("SELECT * FROM weather"), ours)
    check("pyarrow: GetFlightInfo gives the visible columns", info.schema.names == COLUMNS, info.schema)
    table = client.do_get(info.endpoints[0].ticket, ours).read_all()
    check("pyarrow: DoGet gives every row", (table.num_rows, table.column_names) == (ROWS, COLUMNS), table.schema)

    def run(sql, call=ours):
        info = client.get_flight_info(statement(sql), call)
        return client.do_get(info.endpoints[0].ticket, call).read_all()

    by_kind = run("SELECT weather, count(*) AS days FROM weather GROUP BY weather ORDER BY weather")
    check("pyarrow: an aggregate", sum(by_kind["days"].to_pylist()) == ROWS and by_kind.num_rows == 5, by_kind)
    refused("pyarrow: a denied column is not there", ["wind"], lambda: run("SELECT wind FROM weather"))
    for sql in ["DELETE FROM weather", "COPY weather TO '/tmp/x.csv'", "EXPLAIN SELECT 1", "SET a = 1"]:
        refused(f"pyarrow: refused: {sql}", ["quer", "allowed", "not"], lambda sql=sql: run(sql))
    other = options(access["bearer"], "marketing")
    refused("pyarrow: another purpose", ["purpose"], lambda: run("SELECT 1 FROM weather", other))
    refused("pyarrow: no purpose", ["purpose"], lambda: run("SELECT 1 FROM weather", options(access["bearer"], None)))
    refused("pyarrow: no bearer", ["authorization", "token", "uthenticated"], lambda: run("SELECT 1", options("")))
    info = client.get_flight_info(statement("SELECT * FROM weather"), ours)
    ticket = info.endpoints[0].ticket
    stolen = lambda: client.do_get(ticket, options(thief["bearer"])).read_all()
    refused("pyarrow: a stolen ticket with another bearer", ["another holder"], stolen)
    bytes_ = bytearray(ticket.ticket)
    bytes_[len(bytes_) // 2] ^= 1
    altered = flight.Ticket(bytes(bytes_))
    refused("pyarrow: an altered ticket", ["ltered", "malformed", "nvalid"], lambda: client.do_get(altered, ours).read_all())
    check("pyarrow: the ticket still serves its holder", client.do_get(ticket, ours).read_all().num_rows == ROWS)
    client.close()


# --- adbc_driver_flightsql -------------------------------------------------------------------------------------------


def adbc_checks(access):
    header = adbc_driver_flightsql.DatabaseOptions
    settings = {
        header.AUTHORIZATION_HEADER.value: f"Bearer {access['bearer']}",
        f"{header.RPC_CALL_HEADER_PREFIX.value}shuyu-purpose": PURPOSE,
    }
    with adbc_driver_flightsql.dbapi.connect(access["flight_endpoint"], settings, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) AS n FROM weather")
            check("adbc: a query by DB-API", cursor.fetchone() == (ROWS,))
            cursor.execute("SELECT * FROM weather")
            table = cursor.fetch_arrow_table()
            check("adbc: a whole table as Arrow", (table.num_rows, table.column_names) == (ROWS, COLUMNS), table.schema)
            sql = "SELECT count(*) AS n FROM weather WHERE precipitation > $1"
            counts = []
            for least in (0.0, 10.0, 1000.0):
                cursor.execute(sql, (least,))
                counts.append(cursor.fetchone()[0])
            check("adbc: a prepared statement with a parameter", ROWS > counts[0] > counts[1] > counts[2] == 0, counts)
            refused("adbc: SQL that is none", ["SELEKT", "xpected", "nvalid"], lambda: cursor.execute("SELEKT 1"))
            refused("adbc: a column that is not there", ["nothing"], lambda: cursor.execute("SELECT nothing FROM weather"))
            refused("adbc: an update", ["read", "quer", "not"], lambda: cursor.executescript("DROP TABLE weather"))
            cursor.execute("SELECT 1 AS one FROM weather LIMIT 1")
            check("adbc: errors leave the connection usable", cursor.fetchone() == (1,))
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        tables = [
            table
            for catalog in objects
            for schema in catalog["catalog_db_schemas"] or []
            for table in schema["db_schema_tables"] or []
        ]
        check("adbc: one table is listed", [table["table_name"] for table in tables] == ["weather"], objects)
        columns = [column["column_name"] for table in tables for column in table["table_columns"] or []]
        check("adbc: its visible columns are listed", columns == COLUMNS, columns)
        names = connection.adbc_get_table_schema("weather").names
        check("adbc: the schema of the table", names == COLUMNS, names)
        info = connection.adbc_get_info()
        check("adbc: the server names itself", "shuyu" in str(info.get("vendor_name", "")).lower(), info)


# --- curl ------------------------------------------------------------------------------------------------------------


def curl(*arguments):
    return subprocess.run(["curl", "--silent", "--noproxy", "*", "--max-time", "60", *map(str, arguments)], capture_output=True)


READERS = {
    "parquet": lambda data: pa.parquet.read_table(io.BytesIO(data)),
    "csv": lambda data: pa.csv.read_csv(io.BytesIO(data)),
    "arrow": lambda data: pa.ipc.open_stream(data).read_all(),
    "json": lambda data: pa.json.read_json(io.BytesIO(data)),
}


def curl_checks(access, thief, work):
    bearer = ["--header", f"Authorization: Bearer {access['bearer']}"]
    at = lambda form: f"{access['http_endpoint']}?format={form}&purpose={PURPOSE}"
    for form, read in READERS.items():
        data = curl(at(form), *bearer).stdout
        try:
            table = read(data)
            check(f"curl: {form} is read back", (table.num_rows, table.column_names) == (ROWS, COLUMNS), table.schema)
        except Exception as error:
            check(f"curl: {form} is read back", False, f"{error}: {data[:200]}")
        part = curl(at(form), *bearer, "--range", "1000-1999").stdout
        check(f"curl: a range of {form}", part == data[1000:2000], f"{len(part)} bytes")
        whole = work / f"resumed.{form}"
        whole.write_bytes(data[:777])
        curl(at(form), *bearer, "--continue-at", "-", "--output", whole)
        check(f"curl: {form} resumed where it broke off", whole.read_bytes() == data, whole.stat().st_size)
    status = lambda *more: curl(*more, "--output", "/dev/null", "--write-out", "%{http_code}").stdout.decode()
    check("curl: no token", status(at("csv")) == "401")
    check("curl: the token of another", status(at("csv"), "--header", f"Authorization: Bearer {thief['bearer']}") == "404")
    check("curl: an unknown format", status(at("xlsx"), *bearer) == "400")
    check("curl: a range beyond the end", status(at("csv"), *bearer, "--range", "99999999-") == "416")
    check("curl: another purpose", status(f"{access['http_endpoint']}?format=csv&purpose=marketing", *bearer) == "403")
    problem = json.loads(curl(f"{access['http_endpoint']}?format=csv", *bearer).stdout)
    check("curl: a refusal says why", "purpose" in problem.get("detail", ""), problem)


# --- a table in an object store --------------------------------------------------------------------------------------

BUCKET, KEY_ID, SECRET = "city-weather", "holder-key", "holder-secret"


class ObjectStore:
    """An S3 server with the weather table in a bucket, cut into two files."""

    def __init__(self, work):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
        self.server.start()
        self.endpoint = "http://%s:%s" % self.server.get_host_and_port()
        at = f"{self.endpoint}/{BUCKET}"
        curl("--request", "PUT", at)
        header, *lines = WEATHER.read_text().splitlines(keepends=True)
        for name, part in {"2012.csv": lines[:700], "2013.csv": lines[700:]}.items():
            data = ["--header", "Content-Type: text/csv", "--data-binary", header + "".join(part)]
            curl("--request", "PUT", f"{at}/daily/{name}", *data)
        (work / "secret").write_text(SECRET + "\n")
        self.settings = (
            f'\n[[buckets]]\nname = "{BUCKET}"\nendpoint = "{self.endpoint}"\nregion = "cn-north-1"\n'
            f'access-key-id = "{KEY_ID}"\nsecret-access-key-file = "{work}/secret"\n'
        )


def object_store_checks(holder, lab, store):
    shuyu(*holder, "asset", "add", "stored", "--location", f"s3://{BUCKET}/daily/", "--format", "csv")
    shuyu(*holder, "offer", "add", "--asset", "stored", "--policy", "open")
    access = lab.access("http-pull", lab.agree("stored"))
    bearer = ["--header", f"Authorization: Bearer {access['bearer']}"]
    at = lambda form: f"{access['http_endpoint']}?format={form}&purpose={PURPOSE}"
    table = pa.parquet.read_table(io.BytesIO(curl(at("parquet"), *bearer).stdout))
    check("object store: every row of both files", (table.num_rows, table.column_names) == (ROWS, COLUMNS), table.schema)
    for location, why in {f"s3://{BUCKET}/nothing/": "an empty prefix", "s3://other/daily/": "a bucket not configured"}.items():
        refused(f"object store: {why}", ["location"], lambda location=location: shuyu(
            *holder, "asset", "add", "absent", "--location", location, "--format", "csv"))
    store.server.stop()
    problem = curl(at("csv"), *bearer).stdout.decode()
    hidden = all(word not in problem for word in (store.endpoint, SECRET, KEY_ID))
    check("object store: when it is away, the consumer is told so and nothing more", "title" in problem and hidden, problem)
    log = pathlib.Path(f"{holder[1]}.log").read_text()
    check("object store: no secret in the log", SECRET not in log)


# --- COSE receipts ---------------------------------------------------------------------------------------------------


def entries(public, size):
    """The entries of a served ledger, from its entry bundles (C2SP tlog-tiles)."""
    found = []
    while len(found) < size:
        tile, left = len(found) // 256, min(256, size - len(found))
        bundle = curl(f"{public}/ledger/tile/entries/{tile:03}" + ("" if left == 256 else f".p/{left}")).stdout
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            found.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    return found


def receipt_checks(holder, did, work):
    """Receipts of the first, a middle and the last entry hold for scitt-cose, and no flipped bit of one does."""
    public = "http://localhost:" + did.rpartition("%3A")[2]
    size = int(curl(f"{public}/ledger/checkpoint").stdout.splitlines()[1])
    raw = base64.b64decode(curl(f"{public}/ledger/vkey").stdout.strip().split(b"+", 2)[2])
    pem = Ed25519PublicKey.from_public_bytes(raw[1:]).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    every = entries(public, size)
    for index in sorted({0, size // 2, size - 1}):
        file = work / f"{index}.cose"
        shuyu(*holder, "ledger", "prove", index, "--format", "cose", "--file", file)
        receipt = file.read_bytes()
        seen = verify_receipt(receipt, leaf_entry_hex=every[index].hex(), log_public_key_pem=pem)
        check(f"scitt-cose: receipt of entry {index}", seen.ok and seen.leaf_index == index and seen.issuer == did, seen)
        other = verify_receipt(receipt, leaf_entry_hex=every[index - 1].hex(), log_public_key_pem=pem)
        check(f"scitt-cose: receipt {index} is of no other entry", not other.ok, other)
        flipped = [receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :] for at in range(len(receipt))]
        good = [
            at
            for at, bad in enumerate(flipped)
            if (again := verify_receipt(bad, leaf_entry_hex=every[index].hex(), log_public_key_pem=pem)).ok
            and (again.root, again.leaf_index) != (seen.root, seen.leaf_index)
        ]
        check(f"scitt-cose: no flipped byte of receipt {index} proves anything else", not good, good)


def main():
    if not SHUYU:
        sys.exit("no command `shuyu`: run `./x build`, or set SHUYU_BIN")
    for name in ("SHUYU_DIR", "SHUYU_URL", "SHUYU_KEY_FILE"):
        os.environ.pop(name, None)
    processes = []
    with tempfile.TemporaryDirectory(prefix="shuyu-clients.") as directory:
        work = pathlib.Path(directory)
        try:
            store = ObjectStore(work)
            did = start(work / "holder", "holder", processes, store.settings)
            (work / "policy.json").write_text(json.dumps(POLICY))
            holder = ["--dir", work / "holder"]
            shuyu(*holder, "asset", "add", "weather", "--location", WEATHER)
            shuyu(*holder, "policy", "add", "open", "--file", work / "policy.json")
            shuyu(*holder, "offer", "add", "--asset", "weather", "--policy", "open")
            lab, thief = Consumer(work / "lab", did, processes), Consumer(work / "thief", did, processes)
            stolen = thief.access("flight-sql")
            for part in (
                lambda: pyarrow_checks(lab.access("flight-sql"), stolen),
                lambda: adbc_checks(lab.access("flight-sql")),
                lambda: curl_checks(lab.access("http-pull"), stolen, work),
                lambda: object_store_checks(holder, lab, store),
                lambda: receipt_checks(holder, did, work),
            ):
                try:
                    part()
                except Exception:
                    check("a part ran to its end", False, traceback.format_exc()[-800:])
            check("the nodes live", all(process.poll() is None for process in processes))
        except Exception:
            check("the nodes were set up", False, traceback.format_exc()[-800:])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            if failed:
                for log in sorted(work.glob("*.log")):
                    print(f"--- {log.name}", *log.read_text().splitlines()[-8:], sep="\n")
    print(f"clients: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

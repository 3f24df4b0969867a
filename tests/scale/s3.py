#!/usr/bin/env python3
"""Copies archives to an object store that speaks S3, and holds what is read there against what is here.

    s3.py [--spantape FILE]

The store is moto's, in this process: python3 -m venv /tmp/moto && /tmp/moto/bin/pip install 'moto[server]' boto3, then
/tmp/moto/bin/python tests/scale/s3.py after cargo build --release. Prints one line a check, and exits with 1 if one has
failed.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as error:
    sys.exit(f"moto is not installed ({error}): pip install 'moto[server]' boto3")

TOP = Path(__file__).resolve().parents[2]
TABLES = ("calls", "recordings", "streams", "events", "quality")
BUCKET = "recordings"
# Several pieces of an upload, and of a download.
LARGE = 20 * 1024 * 1024 + 77
# A search where nobody answers has given up by then.
PATIENCE = 60


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--spantape", type=Path, default=TOP / "target/release/spantape")
    arguments = arguments.parse_args()

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    # Another's settings would lead elsewhere.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(environment)
    directory = Path(tempfile.mkdtemp(prefix="spantape-s3-"))
    try:
        return Checks(arguments.spantape, directory).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        server.stop()


class Checks:
    def __init__(self, spantape: Path, directory: Path):
        self.program = spantape
        self.directory = directory
        self.store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        self.store.create_bucket(Bucket=BUCKET)
        self.key = directory / "seal.key"
        self.failed = 0

    def run(self) -> int:
        self.spantape("keygen", "--to", self.key)
        here = self.archive("here", ["plain-pcmu", "g722", "hold-resume", "pbx-legs", "dtmf"])
        # What is sealed is finished, whatever it is.
        # Of what is copied only the journal may be of any size here: recordings have rows.
        large = here / "journal/access-2026-01-01.jsonl"
        large.parent.mkdir(parents=True, exist_ok=True)
        large.write_bytes(b'{"what":"' + os.urandom(LARGE // 2).hex().encode() + b'"}\n')
        self.seal(here)
        there = f"s3://{BUCKET}/site/1"

        self.check("copies all that is finished", self.copy, here, there)
        self.check("the bucket has what the archive has", self.same_files, here, "site/1/")
        self.check("each object tells its hash", self.hashes, here, "site/1/")
        self.check("nothing is copied twice", self.idle, here, there)
        for table in TABLES:
            self.check(f"search: {table}", self.same, here, there, "search", "--table", table, "--format", "jsonl")
        wanted = ("--party", "1009", "--limit", "2", "--format", "csv")
        self.check("search: a party", self.same, here, there, "search", *wanted)
        recording = self.rows(here)[0]
        name = recording["recording_id"]
        self.check("show", self.same, here, there, "show", name, "--json")
        self.check("show: the waveform", self.same, here, there, "show", name)
        self.check("play", self.same, here, there, "play", name, "--stdout")
        self.check("export", self.export, here, there)
        self.check("new recordings come", self.more, here, there)
        self.check("verify", self.same, here, there, "verify", "--key", self.public(), "--json")
        self.check("what has gone here goes there", self.gone, here, there)
        self.check("what was altered there is found, and mended", self.altered, here, there)
        self.check("another archive is refused", self.refused, there)
        self.check("several archives in one place", self.nodes)
        self.check("what cannot be", self.cannot)
        print(f"{self.failed} failed" if self.failed else "all as it should be")
        return 1 if self.failed else 0

    def check(self, what: str, check, *arguments) -> None:
        begun = time.monotonic()
        try:
            check(*arguments)
            said = "ok"
        except (AssertionError, KeyError, IndexError, ValueError, OSError, subprocess.SubprocessError) as error:
            self.failed += 1
            said = f"FAILED: {error!r}"
        print(f"{what:<45} {time.monotonic() - begun:5.1f} s  {said}", flush=True)

    def spantape(self, *arguments, code: int = 0, environment=None) -> subprocess.CompletedProcess:
        command = [str(argument) for argument in (self.program, *arguments)]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **(environment or {})})
        said = done.stderr.decode(errors="replace").strip()
        assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}: {said}"
        return done

    def archive(self, name: str, samples) -> Path:
        path = self.directory / name
        captures = [TOP / "samples" / sample / "input.pcap" for sample in samples]
        self.spantape("replay", *captures, "--archive", path)
        return path

    def seal(self, archive: Path) -> None:
        self.spantape("seal", "--archive", archive, "--key", self.key)

    def public(self) -> Path:
        return self.key.with_name(self.key.name + ".pub")

    def rows(self, archive, *arguments):
        found = self.spantape("search", "--archive", archive, "--format", "jsonl", *arguments)
        return [json.loads(line) for line in found.stdout.splitlines()]

    def copied(self, archive: Path, url: str, *arguments) -> str:
        return self.spantape("copy", "--archive", archive, "--to", url, *arguments).stdout.decode().strip()

    def objects(self, prefix: str) -> dict:
        pages = self.store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        found = [each for page in pages for each in page.get("Contents", [])]
        return {each["Key"][len(prefix):]: each["Size"] for each in found}

    def copy(self, archive: Path, url: str) -> None:
        said = self.copied(archive, url)
        assert said.startswith(f"{len(files(archive))} files copied"), said

    def idle(self, archive: Path, url: str) -> None:
        said = self.copied(archive, url)
        assert said.startswith("0 files copied"), said

    def same_files(self, archive: Path, prefix: str) -> None:
        here = {name: path.stat().st_size for name, path in files(archive).items()}
        there = self.objects(prefix)
        assert here == there, f"only here: {here.items() - there.items()}; only there: {there.items() - here.items()}"

    def hashes(self, archive: Path, prefix: str) -> None:
        for name, path in files(archive).items():
            found = self.store.head_object(Bucket=BUCKET, Key=prefix + name)["Metadata"]
            assert found.get("sha256") == hashlib.sha256(path.read_bytes()).hexdigest(), f"{name}: {found}"

    def same(self, here: Path, there: str, command: str, *arguments) -> None:
        answers = [self.spantape(command, "--archive", archive, *arguments).stdout for archive in (here, there)]
        assert answers[0], "no answer"
        assert answers[0] == answers[1], f"here {answers[0][:300]}, there {answers[1][:300]}"

    def export(self, here: Path, there: str) -> None:
        folders = []
        for number, archive in enumerate((here, there)):
            folder = self.directory / f"export-{number}"
            self.spantape("export", "--archive", archive, "--to", folder)
            self.spantape("verify", folder, "--key", self.public())
            folders.append({name: path.read_bytes() for name, path in files(folder).items()})
        assert len(folders[0]) > 1 and folders[0] == folders[1], [sorted(folder) for folder in folders]

    def more(self, here: Path, there: str) -> None:
        self.spantape("replay", TOP / "samples/l16/input.pcap", "--archive", here)
        self.copied(here, there)
        self.same_files(here, "site/1/")
        self.same(here, there, "search", "--format", "jsonl")

    def gone(self, here: Path, there: str) -> None:
        row = self.rows(here)[0]
        self.spantape("purge", "--archive", here, "--call-id", row["call_id"], "--reason", "s3.py", "--yes")
        assert not (here / row["file"]).exists(), row["file"]
        self.spantape("compact", "--archive", here)
        self.seal(here)
        said = self.copied(here, there)
        assert said.endswith(" removed"), said
        self.same_files(here, "site/1/")
        self.same(here, there, "verify", "--key", self.public(), "--json")
        self.same(here, there, "search", "--format", "jsonl")

    def altered(self, here: Path, there: str) -> None:
        file = self.rows(here)[-1]["file"]
        whole = (here / file).read_bytes()
        self.store.put_object(Bucket=BUCKET, Key=f"site/1/{file}", Body=bytes(len(whole)))
        found = self.spantape("verify", "--archive", there, code=1).stdout.decode()
        assert f"{file}: changed since it was sealed" in found, found
        # The journal tells of the search; what else is there is taken to be what it was.
        self.copied(here, there)
        said = self.copied(here, there, "--check")
        assert said.startswith("1 files copied"), said
        body = self.store.get_object(Bucket=BUCKET, Key=f"site/1/{file}")["Body"].read()
        assert body == whole
        self.spantape("verify", "--archive", there)

    def refused(self, there: str) -> None:
        other = self.archive("other", ["plain-pcmu"])
        self.seal(other)
        said = self.spantape("copy", "--archive", other, "--to", there, code=2).stderr.decode()
        assert "--node" in said and len(said.splitlines()) == 1, said

    def nodes(self) -> None:
        url, rows = f"s3://{BUCKET}/both", 0
        for node, samples in (("north", ["plain-pcmu", "dtmf"]), ("south", ["g722"])):
            archive = self.archive(node, samples)
            rows += len(self.rows(archive))
            self.seal(archive)
            self.copied(archive, url, "--node", node)
        assert len(self.rows(url)) == rows, rows
        found = json.loads(self.spantape("verify", "--archive", url, "--key", self.public(), "--json").stdout)
        assert (found["manifests"], found["recordings"], found["unsealed"]) == (2, rows, 0), found

    def cannot(self) -> None:
        def told(archive: str, words: str, **environment) -> None:
            begun = time.monotonic()
            done = self.spantape("search", "--archive", archive, code=2, environment=environment)
            said = done.stderr.decode().strip().splitlines()
            # It may be warned first that nobody notes who looks.
            assert words in said[-1] and len(said) <= 2, said
            assert time.monotonic() - begun < PATIENCE, "it took too long"

        told("s3://nobody-has-this", "NoSuchBucket")
        told(f"s3://{BUCKET}/nothing", "is no archive")
        told("ftp://host/x", "s3://BUCKET/PREFIX")
        told(f"s3://{BUCKET}/site/1", "refused", AWS_ENDPOINT_URL="http://127.0.0.1:1")


def files(archive: Path) -> dict:
    """What of an archive is copied, by name."""
    found = {}
    for path in archive.rglob("*"):
        name = path.relative_to(archive).as_posix()
        if path.is_file() and not name.startswith("spool/") and not path.name.startswith("."):
            found[name] = path
    return found


if __name__ == "__main__":
    sys.exit(main())

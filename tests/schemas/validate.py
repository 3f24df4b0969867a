#!/usr/bin/env python3
"""Checks vCons: python3 tests/schemas/validate.py [--key FILE] [--media DIR] [--schema FILE] FILE...

Needs `pip install 'jsonschema[format-nongpl]' cryptography`. Says of each file what is wrong with it, or what was found
to be right; exits with 1 when anything is wrong.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
import urllib.parse
import wave

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from jsonschema import FormatChecker
from jsonschema.validators import validator_for

HERE = pathlib.Path(__file__).parent
FORMATS = FormatChecker()
# Samples may be rounded to milliseconds.
TOLERANCE = 0.001


class Wrong(Exception):
    """Nothing more can be said of a file."""


def once(pairs):
    """An object no name of which comes twice (RFC 7515, section 4)."""
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise Wrong(f"a name comes twice: {names}")
    return dict(pairs)


def parse(text):
    return json.loads(text, object_pairs_hook=once)


def decode(text):
    """Base64url without padding (RFC 7515, section 2), in the one way it can be written."""
    if not isinstance(text, str) or not re.fullmatch("[A-Za-z0-9_-]*", text):
        raise Wrong("not Base64url without padding")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise Wrong("Base64url with bits that mean nothing")
    return decoded


def by_schema(path, what):
    schema = json.loads(path.read_text())
    errors = validator_for(schema)(schema, format_checker=FORMATS).iter_errors(what)
    return [f"{error.json_path}: {shorten(error.message)}" for error in errors]


def shorten(text):
    return text if len(text) < 300 else f"{text[:140]}…{text[-140:]}"


def public_key(header):
    """The key that comes with a signature: as it is, or in a certificate."""
    if "jwk" in header:
        return ed25519.Ed25519PublicKey.from_public_bytes(decode(header["jwk"]["x"]))
    if "x5c" in header:
        return x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0])).public_key()
    raise Wrong("the key is elsewhere")


def verify(key, algorithm, signature, signed):
    try:
        if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise Wrong(f"{algorithm} by such a key is not known here")
    except InvalidSignature:
        raise Wrong("the signature is not of this payload and key") from None


def unsigned(jws, trusted):
    """The vCon in a signed one, all signatures of which are right (RFC 7515, section 5.2)."""
    payload = decode(jws["payload"])
    vcon = parse(gzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload)
    for one in jws["signatures"]:
        protected, header = parse(decode(one["protected"])), one["header"]
        if both := protected.keys() & header.keys():
            raise Wrong(f"protected and not protected: {sorted(both)}")
        header = {**header, **protected}
        if "crit" in header or "alg" not in protected:
            raise Wrong("headers that are not known here, or alg is not protected")
        if header["uuid"] != vcon.get("uuid"):
            raise Wrong("the header has another uuid than the vCon")
        key = trusted or public_key(header)
        signed = f"{one['protected']}.{jws['payload']}".encode()
        verify(key, header["alg"], decode(one["signature"]), signed)
    return vcon


def indices(value):
    """All numbers in parties, however they are nested."""
    if isinstance(value, list):
        return [index for item in value for index in indices(item)]
    return [] if value is None else [value]


def places(vcon):
    """Whether each index is one of something that is there."""
    parties, dialogs = len(vcon.get("parties", [])), len(vcon.get("dialog", []))
    wanted = []
    for at, dialog in enumerate(vcon.get("dialog", [])):
        people = ["parties", "originator", "transferee", "transferor", "transfer_target"]
        others = ["recordings", "recording_set", "original", "consultation", "target_dialog"]
        wanted += [(f"$.dialog[{at}].{name}", dialog.get(name), parties) for name in people]
        wanted += [(f"$.dialog[{at}].{name}", dialog.get(name), dialogs) for name in others]
        wanted += [(f"$.dialog[{at}].party_history", past["party"], parties) for past in dialog.get("party_history", [])]
        first = indices(dialog.get("parties"))[:1]
        if "originator" in dialog and [dialog["originator"]] == first:
            yield f"$.dialog[{at}].originator: is the first of its parties, and so must not be said (4.3.5)"
    for at, attachment in enumerate(vcon.get("attachments", [])):
        wanted.append((f"$.attachments[{at}].party", attachment["party"], parties))
        wanted.append((f"$.attachments[{at}].dialog", attachment["dialog"], dialogs))
    for at, analysis in enumerate(vcon.get("analysis", [])):
        wanted.append((f"$.analysis[{at}].dialog", analysis.get("dialog"), dialogs))
        wanted.append((f"$.analysis[{at}].attachment", analysis.get("attachment"), len(vcon.get("attachments", []))))
    for place, value, limit in wanted:
        if any(index >= limit for index in indices(value)):
            yield f"{place}: there is no {value}"


def content(item, media):
    """The bytes of a file within or elsewhere; None where there are none to be found."""
    if "url" not in item:
        return decode(item["body"]) if item.get("encoding") == "base64url" else None
    named = [item.get("filename"), urllib.parse.unquote(urllib.parse.urlsplit(item["url"]).path)]
    for name in named:
        path = media / pathlib.PurePosixPath(name or "").name
        if name and path.is_file():
            return path.read_bytes()
    return None


def hashes_of(item, data):
    """Which of a file's hashes are not its own."""
    tokens = item["content_hash"]
    for token in tokens if isinstance(tokens, list) else [tokens]:
        name, _, digest = token.partition("-")
        if name == "sha512" and hashlib.sha512(data).digest() != decode(digest):
            yield "the hash is another"


def sound(dialog, data):
    """Whether a WAV file has as many channels as there are parties, and is as long as is said (4.3.3, 4.3.4)."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, seconds = file.getnchannels(), file.getnframes() / file.getframerate()
    except (wave.Error, EOFError) as error:
        yield f"no WAV file: {error}"
        return
    parties = dialog["parties"]
    if channels > 1 and (not isinstance(parties, list) or len(parties) != channels):
        yield f"{channels} channels, but parties are {parties}"
    if abs(seconds - dialog.get("duration", seconds)) > TOLERANCE:
        yield f"{seconds} s, but duration is {dialog['duration']}"


def files(vcon, media, seen):
    """What is wrong with the files of a vCon. Those that were looked at, and those that are not here, are counted."""
    for kind in ["dialog", "analysis", "attachments"]:
        for at, item in enumerate(vcon.get(kind, [])):
            data = content(item, media)
            if data is None:
                seen["not here"] += "url" in item
                continue
            seen["inline" if "body" in item else "hashed"] += 1
            found = list(hashes_of(item, data)) if "url" in item else []
            if item.get("mediatype") == "audio/x-wav" and item.get("type") == "recording":
                found += sound(item, data)
            yield from (f"$.{kind}[{at}]: {problem}" for problem in found)


def check(path, args, seen):
    """What is wrong with a file."""
    vcon = parse(path.read_bytes())
    if not isinstance(vcon, dict):
        return ["no object"]
    if "payload" in vcon and "signatures" in vcon:
        if problems := by_schema(HERE / "vcon-signed.json", vcon):
            return problems
        seen["signatures"] = len(vcon["signatures"])
        vcon = unsigned(vcon, args.key)
    elif args.key:
        return ["is not signed"]
    for schema in [HERE / "vcon-core.json", *args.schema]:
        if problems := by_schema(schema, vcon):
            return problems
    return [*places(vcon), *files(vcon, args.media or path.parent, seen)]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--key", type=pathlib.Path, help="the public key (PEM) that all must be signed with")
    options.add_argument("--media", type=pathlib.Path, help="where files lie that are referred to; else beside the vCon")
    options.add_argument("--schema", type=pathlib.Path, action="append", default=[], help="one more schema to hold to")
    options.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE")
    args = options.parse_args()
    if missing := {"date-time", "uri", "uuid"} - FORMATS.checkers.keys():
        sys.exit(f"jsonschema cannot check {sorted(missing)}: pip install 'jsonschema[format-nongpl]'")
    args.key = args.key and serialization.load_pem_public_key(args.key.read_bytes())
    failed = False
    for path in args.files:
        seen = {"signatures": 0, "inline": 0, "hashed": 0, "not here": 0}
        try:
            problems = check(path, args, seen)
        except (Wrong, ValueError, OSError) as error:
            problems = [error]
        failed |= bool(problems)
        for problem in problems:
            print(f"{path}: {problem}")
        if not problems:
            print(f"{path}: ok, {', '.join(f'{count} {what}' for what, count in seen.items())}")
    sys.exit(failed)


if __name__ == "__main__":
    main()

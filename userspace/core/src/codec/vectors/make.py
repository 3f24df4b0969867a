#!/usr/bin/env python3
"""Makes the vectors of this folder again, with ffmpeg and what samples/audio has. See README.md."""
import pathlib
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
AUDIO = HERE.parents[4] / "samples" / "audio"
SPEECH = ["-ss", "0.4", "-t", "0.8", "-i"]


def ffmpeg(*arguments, data=None):
    """Runs ffmpeg and gives what it writes to its standard output."""
    command = ["ffmpeg", "-loglevel", "error", *map(str, arguments), "-"]
    return subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE).stdout


def write(name, data):
    (HERE / name).write_bytes(data)
    print(f"{name}: {len(data)}")


def plain():
    """Codecs whose payloads are a file of ffmpeg's as they are."""
    every_code = bytes(range(256))
    for name, kind in ("pcmu", "mulaw"), ("pcma", "alaw"):
        write(f"{name}.rtp", every_code)
        write(f"{name}.s16le", ffmpeg("-f", kind, "-ar", 8000, "-i", "-", "-f", "s16le", data=every_code))
    for name, kind in ("l16", "s16be"), ("g722", "g722"):
        payloads = ffmpeg(*SPEECH, AUDIO / "callee-16k.wav", "-f", kind)
        rate = ["-ar", 16000] if kind == "s16be" else []
        write(f"{name}.rtp", payloads)
        write(f"{name}.s16le", ffmpeg("-f", kind, *rate, "-i", "-", "-f", "s16le", data=payloads))


def gsm():
    frames = ffmpeg(*SPEECH, AUDIO / "callee-8k.wav", "-c:a", "libgsm", "-f", "gsm")
    write("gsm.rtp", frames)
    write("gsm.s16le", ffmpeg("-f", "gsm", "-c:a", "libgsm", "-i", "-", "-f", "s16le", data=frames))


def g726():
    for bits in range(2, 6):
        name, samples = f"g726-{8 * bits}", set()
        for packing, suffix in ("g726le", "le"), ("g726", "be"):
            codes = ffmpeg(*SPEECH, AUDIO / "callee-8k.wav", "-c:a", packing, "-code_size", bits, "-f", packing)
            # Whole packets of 20 ms.
            codes = codes[: len(codes) // (20 * bits) * 20 * bits]
            write(f"{name}-{suffix}.rtp", codes)
            samples.add(ffmpeg("-f", packing, "-code_size", bits, "-i", "-", "-f", "s16le", data=codes))
        (only,) = samples
        write(f"{name}.s16le", only)


def dvi4():
    """QuickTime's blocks of IMA ADPCM as DVI4: 64 codes, the first in the low half of an octet."""
    streamed = ["-f", "mov", "-movflags", "frag_keyframe+empty_moov"]
    mov = ffmpeg(*SPEECH, AUDIO / "callee-8k.wav", "-c:a", "adpcm_ima_qt", *streamed)
    samples = ffmpeg("-i", "-", "-f", "s16le", data=mov)
    blocks = ffmpeg("-i", "-", "-map", "0:a", "-c:a", "copy", "-f", "data", data=mov)
    packets, last = b"", 0
    for at in range(0, len(blocks), 34):
        (state,) = struct.unpack(">h", blocks[at : at + 2])
        # The block has the upper nine bits of the predictor; where they are those of the sample before, a
        # decoder goes on from that sample.
        predicted, index = state & ~0x7F, state & 0x7F
        if abs(predicted - last) <= 0x7F:
            predicted = last
        codes = bytes((code & 15) << 4 | code >> 4 for code in blocks[at + 2 : at + 34])
        packets += struct.pack(">hBB", predicted, index, 0) + codes
        end = 2 * 64 * (at // 34 + 1)
        (last,) = struct.unpack("<h", samples[end - 2 : end])
    write("dvi4.rtp", packets)
    write("dvi4.s16le", samples[: 2 * 64 * (len(blocks) // 34)])


def opus():
    """Packets of 20 ms, each with the one before it in low bit rate, and each behind its length."""
    ogg = ffmpeg(
        *SPEECH, AUDIO / "callee-16k.wav", "-c:a", "libopus", "-application", "voip", "-b:a", "24k",
        "-frame_duration", 20, "-fec", 1, "-packet_loss", 20, "-page_duration", 20000, "-f", "ogg",
    )  # fmt: skip
    packets, at = [], 0
    while at < len(ogg):
        count = ogg[at + 26]
        lengths, at, part = ogg[at + 27 : at + 27 + count], at + 27 + count, 0
        for length in lengths:
            part += length
            if length < 255:
                packets.append(ogg[at : at + part])
                at, part = at + part, 0
    head, packets = packets[0], packets[2:]
    write("opus.rtp", b"".join(struct.pack(">H", len(packet)) + packet for packet in packets))
    # ffmpeg leaves out the samples that the encoder is late by; here they are silence.
    (skip,) = struct.unpack("<H", head[10:12])
    samples = ffmpeg("-c:a", "libopus", "-i", "-", "-f", "s16le", "-ar", 48000, data=ogg)
    write("opus.s16le", bytes(2 * skip) + samples)


for make in plain, gsm, g726, dvi4, opus:
    make()

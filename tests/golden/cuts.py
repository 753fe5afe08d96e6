#!/usr/bin/env python3
"""Cuts the streams of a golden repository again, and computes the super-features of their chunks again.

    cuts.py KEY_FILE REPOSITORY

Compares both with what the repository has: so the sections "Chunker" and "Super-features" of docs/format.md are
enough to write what dbvault will deduplicate against. Uses reader.py.
"""

import math
import struct
import sys

sys.dont_write_bytecode = True
import reader
from blake3 import blake3

MASKS = {
    11: 0x0000D90003530000, 12: 0x0000D90103530000, 13: 0x0000D90303530000, 14: 0x0000D90313530000,
    15: 0x0000D90F03530000, 16: 0x0000D90303537000, 17: 0x0000D90703537000, 18: 0x0000D90707537000,
    19: 0x0000D91707537000, 20: 0x0000D91747537000, 21: 0x0000D91767537000, 22: 0x0000D93767537000,
    23: 0x0000D93777537000,
}


def numbers(repository, context, count, form, size):
    key = reader.derive(context, repository.master)
    return struct.unpack(f"<{count}{form}", blake3(b"", key=key).digest(length=count * size))


class Chunker:
    """Cut points of one stream."""

    def __init__(self, repository):
        self.gear = numbers(repository, "chunker gear table", 256, "Q", 8)
        self.smallest, self.average, self.largest = (repository.params[0][key] for key in range(3))
        bits = round(math.log2(self.average))
        self.strict, self.loose = MASKS[bits + 1], MASKS[bits - 1]
        self.pairs, self.turn, self.start = [None] * 16, 0, 0

    def is_far(self, kind, place):
        for at, pair in enumerate(self.pairs):
            if pair and pair[0] == kind:
                self.pairs[at] = (kind, place)
                return place - pair[1] > 65536
        self.pairs[self.turn] = (kind, place)
        self.turn = (self.turn + 1) % 16
        return True

    def search(self, window, first):
        """The next candidate and its hash."""
        value, end = 0, first + (len(window) - first) // 2 * 2
        for p in range(first + 64, end):
            value = (value * 2 + self.gear[window[p]]) & 0xFFFF_FFFF_FFFF_FFFF
            if value & self.loose == 0:
                return p, value
        return None, 0

    def cut(self, stream, at):
        window, first = stream[at : at + self.largest], 0
        while True:
            p, value = self.search(window, first)
            if p is None:
                return len(window)
            far = self.is_far(value % 4096, at + p)
            if far and (p >= self.average or (p >= self.smallest and value & self.strict == 0)):
                return p
            first = p & ~1


class Similarity:
    def __init__(self, repository):
        words = numbers(repository, "similarity features", 29, "I", 4)
        self.pick = words[0] | 1
        self.factors = [words[1 + 2 * i] | words[2 + 2 * i] << 32 for i in range(8)]
        self.transforms = [(words[17 + 2 * i] | 1, words[18 + 2 * i]) for i in range(6)]

    def features(self, chunk):
        """The 18 bytes of an entry, or nothing."""
        if len(chunk) < 4096:
            return b""
        maxima, sampled = [0] * 6, False
        for p in range(len(chunk) - 31):
            words = struct.unpack_from("<8I", chunk, p)
            if (words[0] + words[4]) * self.pick >> 23 & 511 == 511:
                sampled = True
                total = sum(word * factor for word, factor in zip(words, self.factors))
                sample = total >> 32 & 0xFFFF_FFFF
                for i, (factor, term) in enumerate(self.transforms):
                    maxima[i] = max(maxima[i], (sample * factor + term) & 0xFFFF_FFFF)
        groups = [struct.pack("<2I", *maxima[i : i + 2]) for i in (0, 2, 4)]
        return b"".join(blake3(group).digest()[:6] for group in groups) if sampled else b""


def main():
    repository = reader.Repository(sys.argv[2], reader.key_file_bytes(sys.argv[1]), None)
    similarity, compared = Similarity(repository), 0
    for manifest, entries in repository.archives():
        for entry in entries:
            stream, grid, chunker, at = repository.stream(entry[1]), entry[0][2], Chunker(repository), 0
            while at < len(stream):
                length = chunker.cut(stream, at) if grid[0] == 0 else grid[1][0]
                chunk, at = stream[at : at + length], at + length
                chunk_id = reader.mac(repository.chunk_id_key, chunk)
                reader.need(chunk_id in repository.where, f"{manifest[1]}, {entry[0][0]}: cut at {at}")
                listed = repository.where[chunk_id][0][4].features
                reader.need(listed == similarity.features(chunk), "super-features")
                compared += 1
    print(f"{compared} chunks are cut and described as the repository says")


if __name__ == "__main__":
    main()

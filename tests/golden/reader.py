#!/usr/bin/env python3
"""Reads a dbvault repository, format version 1, without dbvault.

    reader.py (--key-file FILE | --passphrase TEXT) REPOSITORY OUT

Writes every entry of every archive, deleted ones too, to OUT/<archive>/<entry>; of a tree of files OUT/<archive>/<entry>.sums
as well, a line for each file: BLAKE3 of its content, its kind, and its path in hexadecimal. Written from docs/format.md, to
show that the document is enough; it holds everything in memory and cares for nothing but being right.
Needs: pip install blake3 cryptography argon2-cffi zstandard
"""

import argparse
import os
import pathlib
import struct
import sys

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MAGIC, VERSION, HEADER_BYTES, TAG_BYTES = b"DBVAULT\0", 1, 48, 16
CONFIG, KEY_SLOT, PACK, INDEX, SESSION, ARCHIVE, FENCE, TRASH, CONDEMNED, ROOT = range(1, 11)
RAW, ZSTD, DELTA = range(3)
PASSPHRASE_SLOT, KEY_FILE_SLOT = 1, 2
CHUNK_BYTES_MAX, DEPTH_MAX, LEVELS_MAX = 16 << 20, 31, 8
TREE, REGULAR, DIRECTORY = 10, 0, 1
RECORD_BYTES_MAX, PATH_BYTES_MAX = 16 << 20, 4096


class Damaged(Exception):
    """Bytes that are not what docs/format.md says."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


class Fields:
    """Takes fields off the front of bytes."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, length):
        need(length <= len(self.data) - self.at, "ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, length):
        return int.from_bytes(self.take(length), "little")

    def leb128(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            need(shift < 70 and not (byte == 0 and shift), "LEB128 out of form")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                need(value < 1 << 64, "LEB128 too large")
                return value

    def rest(self):
        return self.data[self.at :]


def cbor(fields):
    """One CBOR item (RFC 8949): the part of it that dbvault uses."""
    first = fields.number(1)
    kind, low = first >> 5, first & 31
    if kind == 7:
        need(low in (20, 21, 22), "CBOR simple value")
        return {20: False, 21: True, 22: None}[low]
    need(low < 28, "CBOR of indefinite length")
    value = low if low < 24 else int.from_bytes(fields.take(1 << (low - 24)), "big")
    if kind in (0, 1):
        return value if kind == 0 else -1 - value
    if kind == 2:
        return fields.take(value)
    if kind == 3:
        return fields.take(value).decode()
    if kind == 4:
        return [cbor(fields) for _ in range(value)]
    need(kind == 5, "CBOR tag")
    return {cbor(fields): cbor(fields) for _ in range(value)}


def only_cbor(data):
    fields = Fields(data)
    value = cbor(fields)
    need(not fields.rest(), "bytes behind the CBOR")
    return value


def derive(context, material):
    return blake3(material, derive_key_context="dbvault v1 " + context).digest()


def mac(key, data):
    return blake3(data, key=key).digest()


def unseal(key, part, aad, sealed):
    nonce = bytes(4) + struct.pack("<Q", part)
    return ChaCha20Poly1305(key).decrypt(nonce, bytes(sealed), aad)


def header(data, *kinds):
    """Checks the header; gives kind and salt."""
    need(data[:8] == MAGIC, "not a dbvault object")
    kind, wrap, version, features = struct.unpack("<BBHI", data[8:16])
    need(wrap == 0 and version == VERSION and features == 0, "newer format")
    need(kind in kinds, f"kind {kind}")
    return kind, data[16:48]


def padme(length):
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    low_bits = max(0, exponent - exponent.bit_length())
    mask = (1 << low_bits) - 1
    return (length + mask) & ~mask


class Entry:
    """One chunk, as a pack directory or an index segment lists it."""

    def __init__(self, fields):
        self.id = fields.take(32)
        flags = fields.number(1)
        self.codec, self.depth = flags & 3, flags >> 3
        need(self.codec <= DELTA and (self.codec == DELTA) == (self.depth > 0), "codec")
        self.plain_len, self.sealed_len = fields.leb128(), fields.leb128()
        need(self.plain_len <= CHUNK_BYTES_MAX and TAG_BYTES <= self.sealed_len, "length of a chunk")
        self.base = fields.take(32) if self.codec == DELTA else b""
        self.features = fields.take(18) if flags & 4 else b""

    def aad(self, repo_id):
        numbers = struct.pack("<BBII", self.codec, self.depth, self.plain_len, self.sealed_len)
        return (repo_id + bytes([PACK]) + self.id + numbers + self.base).ljust(128, b"\0")


def entries_of(fields):
    return [Entry(fields) for _ in range(fields.leb128())]


class Repository:
    def __init__(self, place, key_file, passphrase):
        self.place = pathlib.Path(place)
        config = self.read("config")
        self.id = header(config, CONFIG)[1]
        self.master = self.open_slots(key_file, passphrase)
        self.object_key, self.pack_key = derive("object", self.master), derive("pack", self.master)
        self.chunk_id_key = derive("chunk id", self.master)
        need(mac(derive("config", self.master), config[:-32]) == config[-32:], "config is not authentic")
        self.params = only_cbor(config[HEADER_BYTES:-32])
        self.where = self.load_index()

    def read(self, name):
        return (self.place / name).read_bytes()

    def names(self, prefix):
        below = self.place / prefix
        found = [p for p in below.rglob("*") if p.is_file() and not p.name.startswith(".")]
        return sorted(p.relative_to(self.place).as_posix() for p in found)

    def open_slots(self, key_file, passphrase):
        for name in self.names("keys"):
            slot = self.read(name)
            need(len(slot) == 416, "length of a key slot")
            salt = header(slot, KEY_SLOT)[1]
            kind, memory_kib, passes, lanes = struct.unpack("<IIII", slot[48:64])
            place = self.id + bytes.fromhex(name.split("/")[1])
            kdf_salt = blake3(slot[:64] + place).digest()
            if kind == PASSPHRASE_SLOT and passphrase is not None:
                stretched = hash_secret_raw(
                    passphrase.encode(), kdf_salt, passes, memory_kib, lanes, 32, Type.ID, 19
                )
            elif kind == KEY_FILE_SLOT and key_file is not None:
                stretched = mac(derive("key file", key_file), kdf_salt)
            else:
                continue
            if mac(derive("key slot commitment", stretched), b"") != slot[64:96]:
                continue
            master = unseal(derive("key slot wrap", stretched), 0, slot[:96] + place, slot[96:144])
            note_key = mac(derive("object", master), salt)
            note = Fields(unseal(note_key, 0, slot[:144] + place + b"note", slot[144:416]))
            print(f"opened {name}: {cbor(note)[0]}")
            need(not any(note.rest()), "note is not padded with zeros")
            return master
        raise Damaged("no key slot opens with this secret")

    def open_object(self, name, *kinds):
        """Kind and body of a sealed object."""
        data = self.read(name)
        kind, salt = header(data, *kinds)
        need(padme(len(data)) == len(data), "length is not a Padmé length")
        aad = data[:HEADER_BYTES] + self.id + name.encode()
        body = unseal(mac(self.object_key, salt), 0, aad, data[HEADER_BYTES:])
        length = int.from_bytes(body[:8], "little")
        need(8 + length <= len(body) and not any(body[8 + length :]), "padding")
        return kind, body[8 : 8 + length]

    def load_index(self):
        """Chunk id -> copies, each (pack, place in it, offset, salt, entry), of all segments that count."""
        base, folded = set(), set()
        roots = self.names("roots")
        if roots:
            root = only_cbor(self.open_object(roots[-1], ROOT)[1])
            base, folded = set(root[0]), set(root[1])
        fenced = {n.split("/")[1] for n in self.names("archives") if self.read(n)[8] == FENCE}
        where = {}
        for name in self.names("index"):
            session = name.split("/")[1]
            if name not in base and (session in fenced or bytes.fromhex(session) in folded):
                continue
            fields = Fields(self.open_object(name, INDEX)[1])
            for _ in range(fields.leb128()):
                pack, salt, size = fields.take(32), fields.take(32), fields.leb128()
                listed = entries_of(fields)
                if not self.has_pack(pack.hex()):
                    continue  # deleted by a collection; no archive needs it
                self.check_pack(pack.hex(), salt, size, listed)
                offset = HEADER_BYTES
                for ordinal, entry in enumerate(listed):
                    where.setdefault(entry.id, []).append((pack.hex(), ordinal, offset, salt, entry))
                    offset += entry.sealed_len
            need(not fields.rest(), "bytes behind an index segment")
        return where

    def has_pack(self, pack):
        return (self.place / "packs" / pack[:2] / pack).exists()

    def pack_bytes(self, pack):
        return self.read(f"packs/{pack[:2]}/{pack}")

    def check_pack(self, pack, salt, size, listed):
        """The name, the trailer and the directory of a pack are what the index says."""
        data = self.pack_bytes(pack)
        need(len(data) == size == padme(size) and blake3(data).hexdigest() == pack, "pack " + pack)
        need(header(data, PACK)[1] == salt and data[-4:] == b"KCAP", "pack header or trailer")
        sealed_len = data[-8:-4]
        start = len(data) - 8 - int.from_bytes(sealed_len, "little")
        aad = self.id + data[:HEADER_BYTES] + b"directory" + sealed_len
        directory = Fields(unseal(mac(self.pack_key, salt), (1 << 64) - 1, aad, data[start:-8]))
        found = entries_of(directory)
        need(not any(directory.rest()), "directory is not padded with zeros")
        need([vars(e) for e in found] == [vars(e) for e in listed], "directory and index differ")
        need(HEADER_BYTES + sum(e.sealed_len for e in found) == start, "records do not add up")

    def chunk(self, chunk_id, depth_max=DEPTH_MAX):
        """A chunk, from the first copy that can be read: a collection may leave a delta and free its base."""
        problem = Damaged(f"chunk {chunk_id.hex()} is missing")
        for copy in self.where.get(chunk_id, []):
            try:
                return self.copy(chunk_id, copy, depth_max)
            except Damaged as damage:
                problem = damage
        raise problem

    def copy(self, chunk_id, copy, depth_max):
        pack, ordinal, offset, salt, entry = copy
        need(entry.depth <= depth_max, "chain of deltas too long")
        sealed = self.pack_bytes(pack)[offset : offset + entry.sealed_len]
        stored = unseal(mac(self.pack_key, salt), ordinal, entry.aad(self.id), sealed)
        if entry.codec == RAW:
            plain = stored
        else:
            prefix = None
            if entry.codec == DELTA:
                base = self.chunk(entry.base, entry.depth - 1)
                prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            decoder = zstandard.ZstdDecompressor(dict_data=prefix)
            plain = decoder.decompress(stored, max_output_size=entry.plain_len)
        need(len(plain) == entry.plain_len, "length of a chunk")
        need(mac(self.chunk_id_key, plain) == chunk_id, "chunk is not what its id names")
        return plain

    def stream(self, ref):
        """All bytes of a stream reference."""
        length, levels, root = ref[0], ref[1], ref.get(2)
        need(levels <= LEVELS_MAX and (root is not None) == (length > 0), "stream reference")
        data = b"".join(self.below(root, levels)) if root is not None else b""
        need(len(data) == length, "length of a stream")
        return data

    def below(self, chunk_id, level):
        if level == 0:
            yield self.chunk(chunk_id)
            return
        node = Fields(self.chunk(chunk_id))
        need(node.number(1) == level, "level of a node")
        for _ in range(node.leb128()):
            child, length = node.take(32), node.leb128()
            data = b"".join(self.below(child, level - 1))
            need(len(data) == length, "length in a node")
            yield data
        need(not node.rest(), "bytes behind a node")

    def archives(self, taken=()):
        """Manifest and entries of each archive but those that a collection has taken, whose packs may be gone."""
        for name in self.names("archives"):
            kind, body = self.open_object(name, ARCHIVE, FENCE)
            manifest = only_cbor(body)
            need(manifest[0].hex() == name.split("/")[1], "id of an archive")
            if kind == FENCE or manifest[0] in taken:
                continue
            table, entries = Fields(self.stream(manifest[7])), []
            while table.rest():
                entries.append(cbor(table))
            need(len(entries) == manifest[8], "count of entries")
            yield manifest, entries

    def trash(self):
        """Archives whose last mark is a delete, and those that a collection is taking."""
        last = {}
        for name in self.names("trash"):
            mark = only_cbor(self.open_object(name, TRASH)[1])
            last[mark[0]] = mark[1]
        return [{archive for archive, action in last.items() if action == wanted} for wanted in (0, 2)]


def good_path(path):
    components = path.split(b"/")
    return len(path) <= PATH_BYTES_MAX and b"\0" not in path and not {b"", b".", b".."} & set(components)


def files_of(table, content):
    """Each record of a file table, with the bytes of the file; holes of sparse files are left out."""
    fields, end, last = Fields(table), 0, None
    while fields.at < len(table):
        length = fields.leb128()
        need(length <= RECORD_BYTES_MAX, "length of a record")
        record = only_cbor(fields.take(length))
        path, kind = record[0], record[1]
        need(good_path(path) or (path == b"" and kind == DIRECTORY), "path of a file")
        place = path.split(b"/") if path else []
        need(last is None or last < place, "order of a file table")
        last, size = place, 0
        if kind == REGULAR and record.get(12) is None:
            extents = record.get(10)
            size = record[8] if extents is None else sum(length for _, length in extents)
        begin = end + record.get(9, 0)
        end = begin + size
        need(end <= len(content), "a file behind the end of the content")
        yield record, content[begin:end]


def sums_of(table, content):
    lines = [f"{blake3(data).hexdigest()} {record[1]} {record[0].hex()}\n" for record, data in files_of(table, content)]
    return "".join(lines)


def key_file_bytes(path):
    lines = pathlib.Path(path).read_text().splitlines()
    need(lines[0] == "dbvault key file v1", "not a key file")
    return bytes.fromhex(next(line[5:] for line in lines if line.startswith("key: ")))


def main():
    parser = argparse.ArgumentParser(description="Reads a dbvault repository of format version 1.")
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--key-file")
    secret.add_argument("--passphrase")
    parser.add_argument("repository")
    parser.add_argument("out")
    args = parser.parse_args()
    key_file = key_file_bytes(args.key_file) if args.key_file else None
    repository = Repository(args.repository, key_file, args.passphrase)
    deleted, taken = repository.trash()
    for name in repository.names("sessions"):
        only_cbor(repository.open_object(name, SESSION)[1])
    for name in repository.names("condemned"):
        only_cbor(repository.open_object(name, CONDEMNED)[1])
    for manifest, entries in repository.archives(taken):
        state = "deleted" if manifest[0] in deleted else "kept"
        for entry in entries:
            name = entry[0][0]
            need(name not in ("", ".", "..") and "/" not in name and "/" not in manifest[1], "name")
            path = pathlib.Path(args.out, manifest[1], name)
            os.makedirs(path.parent, exist_ok=True)
            content = repository.stream(entry[1])
            path.write_bytes(content)
            need((entry.get(5) is not None) == (entry[0][1] == TREE), "a tree has a file table, and nothing else has")
            if entry[0][1] == TREE:
                sums = sums_of(repository.stream(entry[5]), content)
                path.with_name(name + ".sums").write_text(sums)
            print(f"{manifest[1]} ({state}): {name}, {entry[1][0]} bytes")


if __name__ == "__main__":
    try:
        main()
    except Damaged as damage:
        sys.exit(f"damaged: {damage}")

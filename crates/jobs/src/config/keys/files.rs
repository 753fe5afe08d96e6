//! Keys that are about files, and about snapshots that they are read from.

use super::{Key, Kind, idle, key, missing};
use Kind::{Anything, Flag, Map, Path, Text, Texts, Words};

const NO_LIST: &str = "what is mounted is read from the kernel";

/// Keys of `btrfs`.
const BTRFS: &[Key] =
    &[key("btrfs_command", Words, "btrfs", "the `btrfs` command"), idle("findmnt_command", Words, NO_LIST)];

/// Keys of `zfs`.
const ZFS: &[Key] = &[
    key("zfs_command", Words, "zfs", "the `zfs` command"),
    key("mount_command", Words, "mount", "the `mount` command"),
    key("umount_command", Words, "umount", "the `umount` command"),
];

/// Keys of `lvm`.
const LVM: &[Key] = &[
    key(
        "snapshot_size",
        Text,
        "10%ORIGIN",
        "room for what changes while a snapshot is there, as `lvcreate` takes it: `5GB`, `10%ORIGIN`",
    ),
    key("lvcreate_command", Words, "lvcreate", "the `lvcreate` command"),
    key("lvremove_command", Words, "lvremove", "the `lvremove` command"),
    key("lvs_command", Words, "lvs", "the `lvs` command"),
    idle("lsblk_command", Words, NO_LIST),
    key("mount_command", Words, "mount", "the `mount` command"),
    key("umount_command", Words, "umount", "the `umount` command"),
];

/// Keys of the highest level.
pub const FILES: &[Key] = &[
    key(
        "source_directories",
        Texts,
        "",
        "files and directories to back up, with all that is in them; `*`, `?` and `[…]` stand for names",
    ),
    key("working_directory", Path, "where dbvault is started", "where relative paths begin"),
    key(
        "source_directories_must_exist",
        Flag,
        "false",
        "one that is not there keeps all files from being backed up; else it is told, and the others are",
    ),
    key(
        "patterns",
        Texts,
        "",
        "lines, of which the first that matches decides: `R PATH` to back up, `+ PATTERN`, `- PATTERN`, `! PATTERN`, `P STYLE`",
    ),
    key("patterns_from", Texts, "", "files of such lines"),
    key(
        "exclude_patterns",
        Texts,
        "",
        "what is left out: `*.tmp`, `sh:home/*/.cache`, `re:[0-9]+\\.log$`, `pp:var/cache`; after `patterns`",
    ),
    key("exclude_from", Texts, "", "files with such a pattern a line"),
    key("exclude_caches", Flag, "false", "leave out what is in directories with a `CACHEDIR.TAG`"),
    key(
        "exclude_if_present",
        Texts,
        "",
        "leave out what is in directories that have a file of one of these names",
    ),
    key("one_file_system", Flag, "false", "stay on the file systems of the paths that are named"),
    key("btrfs", Map(&[BTRFS], None), "", "read files from snapshots of Btrfs subvolumes; may be empty"),
    key("zfs", Map(&[ZFS], None), "", "read files from snapshots of ZFS datasets; may be empty"),
    key("lvm", Map(&[LVM], None), "", "read files from snapshots of logical volumes; may be empty"),
    missing(
        "exclude_nodump",
        Flag,
        "files with this flag are backed up like others; leave them out by patterns",
    ),
    missing("read_special", Flag, "devices and FIFOs are stored as what they are, and not read"),
    idle(
        "keep_exclude_tags",
        Anything,
        "a directory that is left out for a tag is kept itself, with the tag",
    ),
    idle(
        "numeric_owner",
        Anything,
        "owners are stored by name and by number; `--numeric-ids` of `extract` chooses",
    ),
    idle(
        "numeric_ids",
        Anything,
        "owners are stored by name and by number; `--numeric-ids` of `extract` chooses",
    ),
    idle("atime", Anything, "times of access are not stored, and are not changed by reading"),
    idle("ctime", Anything, "times of the last change are always stored"),
    idle("birthtime", Anything, "times of birth are not stored: no system can set them"),
    idle("bsd_flags", Anything, "flags are always stored"),
    idle("flags", Anything, "flags are always stored"),
    idle("files_cache", Anything, "a file is read again where its size, inode or time of change differs"),
    idle("unsafe_skip_path_validation_before_create", Anything, "nothing is left out without a word"),
];

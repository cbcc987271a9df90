//! File systems whose notifications are of this machine's own doings alone.

use std::path::Path;

use nix::sys::statfs::statfs;

/// The magic numbers of those that others change unheard (statfs(2), linux/magic.h, and each file system's own sources).
const SILENT: [(u64, &str); 17] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x786f_4256, "VirtualBox's shared folder"),
    (0xbacb_acbc, "VMware's shared folder"),
];

/// Whether all changes at `path` are told of; why not, where that is known. One whose file system cannot be asked is taken for
/// one that tells.
pub(super) fn tells_of_all(path: &Path) -> Result<(), String> {
    let magic = statfs(path).map(|found| u64::try_from(found.filesystem_type().0));
    match magic {
        Ok(Ok(magic)) => is_silent(magic).map_or(Ok(()), |name| {
            let path = path.display();
            Err(format!(
                "{path} is on {name}, which does not tell of what is changed elsewhere"
            ))
        }),
        _ => Ok(()),
    }
}

fn is_silent(magic: u64) -> Option<&'static str> {
    let of = |(silent, _): &&(u64, _)| *silent == magic;
    SILENT.iter().find(of).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use nix::sys::statfs::{
        EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
        SMB_SUPER_MAGIC, TMPFS_MAGIC,
    };

    use super::{is_silent, tells_of_all};

    fn named(kind: FsType) -> Option<&'static str> {
        is_silent(u64::try_from(kind.0).expect("a magic number"))
    }

    #[test]
    fn what_other_machines_change_is_not_told_of() {
        assert_eq!(named(NFS_SUPER_MAGIC), Some("NFS"));
        assert_eq!(named(SMB_SUPER_MAGIC), Some("SMB"));
        assert_eq!(named(FUSE_SUPER_MAGIC), Some("FUSE"));
    }

    #[test]
    fn what_only_this_machine_changes_is() {
        for kind in [EXT4_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC] {
            assert_eq!(named(kind), None, "{kind:?}");
        }
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(tells_of_all(directory.path()), Ok(()));
        assert_eq!(tells_of_all(&directory.path().join("none")), Ok(()));
    }
}

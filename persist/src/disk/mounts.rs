//! Whether a directory lies in memory, also where an overlay hides it.
//!
//! An overlay (the root of most containers is one) writes to its upper directory, which may lie on a tmpfs.
//! Its own `statfs` does not say so; `/proc/self/mountinfo` names the upper directory. This file only decides
//! and parses: [`super::real`] asks the system.

use std::io;
use std::path::{Path, PathBuf};

/// `f_type` of tmpfs and ramfs, from `linux/magic.h`.
const VOLATILE_TYPES: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// `f_type` of an overlay.
const OVERLAY_TYPE: u64 = 0x794c_7630;
/// Most nested overlays to look through; the kernel allows two.
const LAYERS_MAX: usize = 8;

/// Whether the directory lies in memory. `type_of` gives a directory's `f_type`, `upper_of` the upper
/// directory of the overlay that it lies on; `None` = it cannot be seen from here, and counts as a disk.
///
/// # Errors
/// What `type_of` answers for the directory itself.
pub(super) fn lies_in_memory(
    dir: &Path,
    type_of: impl Fn(&Path) -> io::Result<u64>,
    upper_of: impl Fn(&Path) -> Option<PathBuf>,
) -> io::Result<bool> {
    let (mut kind, mut dir) = (type_of(dir)?, dir.to_owned());
    for _ in 0..LAYERS_MAX {
        if kind != OVERLAY_TYPE {
            break;
        }
        let upper = upper_of(&dir).and_then(|upper| Some((type_of(&upper).ok()?, upper)));
        let Some(upper) = upper else {
            tracing::warn!(dir = %dir.display(), "the directory lies on an overlay whose upper directory cannot be seen");
            break;
        };
        (kind, dir) = upper;
    }
    Ok(VOLATILE_TYPES.contains(&kind))
}

/// The upper directory of the overlay with this device number, out of the text of `/proc/self/mountinfo`;
/// `None` when there is no such overlay, or it has none.
pub(super) fn overlay_upper(mountinfo: &str, (major, minor): (u32, u32)) -> Option<PathBuf> {
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - overlay none rw,lowerdir=…,upperdir=…
    let device = format!("{major}:{minor}");
    let options = mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = filesystem.split(' ');
        let is_it = mount.split(' ').nth(2)? == device && fields.next()? == "overlay";
        is_it.then(|| fields.nth(1))?
    })?;
    options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(|path| unescaped(path).into())
}

/// Text in which the kernel wrote some bytes as `\ooo`, three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:33 / /a rw - overlay overlay rw,lowerdir=/low:/lower,upperdir=/mem/up,workdir=/mem/work
41 27 0:34 / /with\\040space rw master:3 - overlay none rw,lowerdir=/l,upperdir=/u\\040p\\054\\134x,workdir=/w
42 27 0:35 / /read-only ro - overlay none ro,lowerdir=/l
43 27 0:36 / /upperdir=/x rw - tmpfs upperdir=/y rw,upperdir=/z
44 27 0:37 / /odd rw - overlay
";

    #[test]
    fn the_upper_directory_is_read_from_mountinfo() {
        let upper =
            |minor| overlay_upper(MOUNTINFO, (0, minor)).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(upper(33).as_deref(), Some("/mem/up"));
        assert_eq!(upper(34).as_deref(), Some("/u p,\\x"));
        for minor in [21, 35, 36, 37, 38] {
            assert_eq!(upper(minor), None, "0:{minor}");
        }
        assert_eq!(overlay_upper("", (0, 33)), None);
        assert_eq!(unescaped("a\\"), "a\\");
        assert_eq!(unescaped("a\\0é"), "a\\0é");
    }

    #[test]
    fn an_overlay_is_as_volatile_as_its_upper_layer() {
        const EXT4: u64 = 0xef53;
        let type_of = |path: &Path| match path.to_str().unwrap() {
            "/tmpfs" => Ok(VOLATILE_TYPES[0]),
            "/ramfs" => Ok(VOLATILE_TYPES[1]),
            "/disk" => Ok(EXT4),
            "/gone" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(OVERLAY_TYPE),
        };
        let upper_of = |path: &Path| match path.to_str().unwrap() {
            "/hidden" => None,
            "/round" => Some("/round".into()),
            path => Some(path.replacen("/over", "", 1).into()),
        };
        for (dir, volatile) in [
            ("/tmpfs", true),
            ("/ramfs", true),
            ("/disk", false),
            ("/over/tmpfs", true),
            ("/over/over/ramfs", true),
            ("/over/disk", false),
            ("/over/gone", false),
            ("/hidden", false),
            ("/round", false),
        ] {
            let found = lies_in_memory(Path::new(dir), type_of, upper_of).unwrap();
            assert_eq!(found, volatile, "{dir}");
        }
        assert!(lies_in_memory(Path::new("/gone"), type_of, upper_of).is_err());
    }
}

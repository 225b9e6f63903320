//! Operations on a tree, drawn from a seed: small ones, of few names, so that they meet each other.
#![allow(missing_docs, reason = "the fields are the arguments of the system calls")]

/// A small pseudo-random generator (splitmix64): the same sequence for the same seed everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number of 64 bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0..limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of `choices`, which are not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// One operation below a root. Paths are relative.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Create {
        path: String,
        mode: u32,
        exclusive: bool,
    },
    Mkdir {
        path: String,
        mode: u32,
    },
    Mknod {
        path: String,
        kind: Node,
        mode: u32,
    },
    Symlink {
        target: String,
        path: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Rmdir {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Write {
        path: String,
        offset: u64,
        len: usize,
        byte: u8,
    },
    Append {
        path: String,
        len: usize,
        byte: u8,
    },
    /// Opens, unlinks, writes, reads back, closes.
    WriteUnlinked {
        path: String,
        len: usize,
        byte: u8,
    },
    Read {
        path: String,
        offset: u64,
        len: usize,
    },
    Truncate {
        path: String,
        size: u64,
    },
    Allocate {
        path: String,
        mode: u32,
        offset: u64,
        len: u64,
    },
    CopyRange {
        from: String,
        to: String,
        offset_in: u64,
        offset_out: u64,
        len: usize,
    },
    Tmpfile {
        directory: String,
        link_to: Option<String>,
        len: usize,
    },
    Chmod {
        path: String,
        mode: u32,
    },
    Chown {
        path: String,
        uid: u32,
        gid: u32,
    },
    Times {
        path: String,
        seconds: i64,
        nanoseconds: i64,
    },
    SetXattr {
        path: String,
        name: String,
        len: usize,
        byte: u8,
        flags: u32,
    },
    RemoveXattr {
        path: String,
        name: String,
    },
    Seek {
        path: String,
        offset: u64,
        data: bool,
    },
    List {
        path: String,
    },
    Stat {
        path: String,
    },
    Fsync {
        path: String,
        data_only: bool,
    },
}

/// A special file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    Fifo,
    Socket,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// Draws operations below one directory.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    root: String,
}

/// Modes of fallocate(2) that FUSE passes on: 0, KEEP_SIZE, and punching and zeroing with it.
const FALLOCATE: [u32; 5] = [0, 1, 2 | 1, 0x10, 0x10 | 1];
const XATTRS: [&str; 6] =
    ["user.a", "user.bb", "user.long-name-of-an-attribute", "trusted.t", "security.s", "user.c"];
const SIZES: [u64; 12] =
    [0, 1, 511, 1024, 4095, 4096, 4097, 20_000, 65_536, 100_000, 300_000, 1_000_000];

impl Generator {
    /// The sequence of `seed`, below the directory `root`.
    #[must_use]
    pub fn new(seed: u64, root: &str) -> Self {
        Self { random: Random::new(seed), root: root.to_owned() }
    }

    /// A path up to three levels deep, of few names, so that operations meet each other.
    fn path(&mut self) -> String {
        let depth = self.random.pick(&[1, 1, 2, 2, 2, 3]);
        let mut path = self.root.clone();
        for level in 0..depth {
            let name = if level + 1 < depth {
                format!("/d{}", self.random.below(4))
            } else {
                match self.random.below(40) {
                    0 => format!("/{}", "n".repeat(255)),
                    1 => format!("/{}", "m".repeat(256)),
                    2..12 => format!("/d{}", self.random.below(4)),
                    number => format!("/f{}", number % 9),
                }
            };
            path.push_str(&name);
        }
        path
    }

    fn offset(&mut self) -> u64 {
        let base = self.random.pick(&SIZES);
        match self.random.below(30) {
            0 => base << 12,
            1 => base << 20,
            2..8 => self.random.below(400_000),
            _ => base,
        }
    }

    fn len(&mut self) -> usize {
        let sizes = [1, 10, 100, 1000, 4096, 8192, 12_345, 40_000, 131_072];
        self.random.pick(&sizes)
    }

    fn byte(&mut self) -> u8 {
        self.random.below(255) as u8 + 1
    }

    fn mode(&mut self) -> u32 {
        self.random.pick(&[0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o1777, 0])
    }

    /// The next operation.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> Op {
        let path = self.path();
        match self.random.below(100) {
            0..12 => Op::Create { path, mode: self.mode(), exclusive: self.random.below(2) == 0 },
            12..19 => Op::Mkdir { path, mode: self.mode() },
            19..21 => {
                let nodes = [Node::Fifo, Node::Socket, Node::CharDevice(1, 3)];
                let large = Node::BlockDevice(300, 70_000);
                let kind = if self.random.below(4) == 0 { large } else { self.random.pick(&nodes) };
                Op::Mknod { path, kind, mode: self.mode() }
            }
            21..25 => {
                let target = "t".repeat(self.random.pick(&[1, 20, 59, 60, 61, 200, 1000]));
                Op::Symlink { target, path }
            }
            25..30 => Op::Link { from: path, to: self.path() },
            30..37 => Op::Unlink { path },
            37..41 => Op::Rmdir { path },
            41..49 => {
                // NOREPLACE, EXCHANGE, WHITEOUT.
                let flags = self.random.pick(&[0, 0, 0, 1, 2, 4]);
                Op::Rename { from: path, to: self.path(), flags }
            }
            49..61 => Op::Write { path, offset: self.offset(), len: self.len(), byte: self.byte() },
            61..64 => Op::Append { path, len: self.len(), byte: self.byte() },
            64..66 => Op::WriteUnlinked { path, len: self.len(), byte: self.byte() },
            66..69 => Op::Read { path, offset: self.offset(), len: self.len() },
            69..80 => self.resize(path),
            80..84 => self.copy(path),
            kind => self.attributes(path, kind),
        }
    }

    fn resize(&mut self, path: String) -> Op {
        if self.random.below(2) == 0 {
            return Op::Truncate { path, size: self.offset() };
        }
        let mode = self.random.pick(&FALLOCATE);
        let len = self.random.pick(&SIZES[1..]);
        Op::Allocate { path, mode, offset: self.random.below(300_000), len }
    }

    fn copy(&mut self, path: String) -> Op {
        if self.random.below(2) == 0 {
            let link_to = (self.random.below(2) == 0).then(|| self.path());
            let directory = format!("{}/d{}", self.root, self.random.below(4));
            return Op::Tmpfile { directory, link_to, len: self.len() };
        }
        Op::CopyRange {
            from: path,
            to: self.path(),
            offset_in: self.random.below(100_000),
            offset_out: self.random.below(100_000),
            len: self.len(),
        }
    }

    fn attributes(&mut self, path: String, kind: u64) -> Op {
        match kind {
            84..86 => Op::Chmod { path, mode: self.mode() },
            86..88 => {
                let ids = [0, 1000, 65_534, 70_000];
                Op::Chown { path, uid: self.random.pick(&ids), gid: self.random.pick(&ids) }
            }
            88..90 => {
                let seconds =
                    self.random.pick(&[0, -1, 1 << 31, 1 << 33, 1_700_000_000, -(1 << 33)]);
                Op::Times { path, seconds, nanoseconds: self.random.below(1_000_000_000) as i64 }
            }
            90..93 => {
                let len = self.random.pick(&[0, 1, 20, 60, 200, 1000, 3000]);
                let flags = self.random.pick(&[0, 0, 1, 2]);
                let name = self.random.pick(&XATTRS).to_owned();
                Op::SetXattr { path, name, len, byte: self.byte(), flags }
            }
            93..94 => Op::RemoveXattr { path, name: self.random.pick(&XATTRS).to_owned() },
            94..96 => Op::Seek { path, offset: self.offset(), data: self.random.below(2) == 0 },
            96 => Op::List { path },
            97 | 98 => Op::Stat { path },
            _ => Op::Fsync { path, data_only: self.random.below(2) == 0 },
        }
    }
}

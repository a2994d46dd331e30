//! The superblock: whose copy it is, and its state.

use super::block::{Reader, Writer, Wrong};
use super::{Layout, layout::places_fit};
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::{ANCESTORS, Generation};

const MAGIC: &[u8; 8] = b"hpmirror";
/// Version of everything in the metadata.
pub const FORMAT: u32 = 1;

const CONSISTENT: u32 = 1;
const OPEN: u32 = 1 << 1;
const WRITTEN: u32 = 1 << 2;
const BESIDE: u32 = 1 << 3;

/// State of one node's copy. Two places; written alternately, [`newest`] tells which counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Rises with each write; its lowest bit tells the place.
    pub sequence: u64,
    /// [`hotpair_core::mirror::Data::id`].
    pub mirror: u64,
    pub node: MemberId,
    /// Of the volume, in bytes.
    pub size: u64,
    pub generation: Generation,
    /// Newest last, at most [`ANCESTORS`].
    pub ancestors: Vec<Generation>,
    /// No resynchronisation was begun that did not end.
    pub consistent: bool,
    /// Set before the first write after an open, cleared by a close in good order.
    pub open: bool,
    /// A write was acknowledged under `generation` or, if there is one, under `solo`.
    pub written: bool,
    /// Goes on alone on its own mark.
    pub solo: Option<Generation>,
    /// What the bitmap counts from: a copy that bears this generation, or began to be resynchronised from
    /// this basis, lacks only what bitmap and activity log name. `NONE`: no copy is known to.
    pub base: Generation,
    /// The basis of the source by which this copy is being resynchronised, while not `consistent`.
    pub resync_base: Generation,
    /// Host boot of the last use.
    pub boot: HostBoot,
    /// Epoch of the last open.
    pub epoch: Epoch,
    pub layout: Layout,
}

/// Why a block is no superblock that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No mark of a mirror.
    Foreign,
    /// A mark, but damaged.
    Damaged,
    /// Written by another version of hotpair.
    Version(u32),
}

impl Superblock {
    /// Do both say the same, whatever their sequence numbers are?
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let Self {
            sequence: _,
            mirror,
            node,
            size,
            generation,
            ancestors,
            consistent,
            open,
            written,
            solo,
            base,
            resync_base,
            boot,
            epoch,
            layout,
        } = self;
        (*generation, *solo, *base, *resync_base)
            == (other.generation, other.solo, other.base, other.resync_base)
            && (*consistent, *open, *written) == (other.consistent, other.open, other.written)
            && (*mirror, *node, *size, *boot, *epoch)
                == (
                    other.mirror,
                    other.node,
                    other.size,
                    other.boot,
                    other.epoch,
                )
            && *layout == other.layout
            && *ancestors == other.ancestors
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC);
        out.u32(FORMAT);
        out.u64(self.sequence);
        out.u64(self.mirror);
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        out.u32(
            flag(self.consistent, CONSISTENT)
                | flag(self.open, OPEN)
                | flag(self.written, WRITTEN)
                | flag(self.layout.beside, BESIDE),
        );
        out.u32(u32::from(self.node.0));
        out.u64(self.size);
        out.u64(self.generation.0);
        out.u64(self.solo.map_or(0, |solo| solo.0));
        out.u64(self.base.0);
        out.u64(self.resync_base.0);
        out.u64(self.boot.0);
        out.u64(self.epoch.0);
        out.u64(self.layout.superblocks);
        out.u64(self.layout.logs);
        out.u64(self.layout.bitmap);
        out.u32(self.layout.pages);
        let excess = self.ancestors.len().saturating_sub(ANCESTORS);
        let ancestors = &self.ancestors[excess..];
        out.u32(u32::try_from(ancestors.len()).unwrap_or(0));
        for ancestor in ancestors {
            out.u64(ancestor.0);
        }
        out.seal()
    }

    /// # Errors
    /// See [`Flaw`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader::open(bytes, MAGIC).map_err(|wrong| match wrong {
            Wrong::Magic => Flaw::Foreign,
            Wrong::Damaged => Flaw::Damaged,
        })?;
        let version = reader.u32();
        if version != FORMAT {
            return Err(Flaw::Version(version));
        }
        let sequence = reader.u64();
        let mirror = reader.u64();
        let flags = reader.u32();
        let node = u8::try_from(reader.u32()).map_err(|_| Flaw::Damaged)?;
        let size = reader.u64();
        let generation = Generation(reader.u64());
        let solo = reader.u64();
        let base = Generation(reader.u64());
        let resync_base = Generation(reader.u64());
        let boot = HostBoot(reader.u64());
        let epoch = Epoch(reader.u64());
        let layout = Layout {
            beside: flags & BESIDE != 0,
            superblocks: reader.u64(),
            logs: reader.u64(),
            bitmap: reader.u64(),
            pages: reader.u32(),
        };
        let count = reader.u32() as usize;
        if count > ANCESTORS || !places_fit(&layout, size) {
            return Err(Flaw::Damaged);
        }
        Ok(Self {
            sequence,
            mirror,
            node: MemberId(node),
            size,
            generation,
            ancestors: (0..count).map(|_| Generation(reader.u64())).collect(),
            consistent: flags & CONSISTENT != 0,
            open: flags & OPEN != 0,
            written: flags & WRITTEN != 0,
            solo: (solo != 0).then_some(Generation(solo)),
            base,
            resync_base,
            boot,
            epoch,
            layout,
        })
    }
}

/// Which of the two places counts: the newest intact one. A place of another version makes the whole
/// unusable: it may be the newer one.
///
/// # Errors
/// The flaw that says most: another version, damage, no mark.
pub fn newest(places: [&[u8]; 2]) -> Result<Superblock, Flaw> {
    let [first, second] = places.map(Superblock::decode);
    match (first, second) {
        (Err(Flaw::Version(version)), _) | (_, Err(Flaw::Version(version))) => {
            Err(Flaw::Version(version))
        }
        (Ok(first), Ok(second)) if first.sequence < second.sequence => Ok(second),
        (Ok(one), _) | (_, Ok(one)) => Ok(one),
        (Err(Flaw::Damaged), _) | (_, Err(Flaw::Damaged)) => Err(Flaw::Damaged),
        (Err(Flaw::Foreign), Err(Flaw::Foreign)) => Err(Flaw::Foreign),
    }
}

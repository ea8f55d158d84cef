//! Which settings and contents are within the bounds, told in another way than `decide` does.

use tidings_core::conversation::{Encryption, Limits, Policy, Retention, Settings, SettingsChange};
use tidings_core::entry::{Content, Opaque};

use crate::world::World;

/// In a direct conversation nobody may set more than how long messages live and who can read them.
pub(crate) fn suits_direct(settings: &Settings) -> bool {
    settings.name.is_empty()
        && settings.description.is_empty()
        && settings.avatar.is_empty()
        && settings.post == Policy::Members
        && settings.invite == Policy::Members
        && settings.describe == Policy::Admins
        && !settings.share_history
        && settings.invite_link.is_none()
}

pub(crate) fn suits_direct_change(change: &SettingsChange) -> bool {
    let SettingsChange {
        vanish_after: _, ..
    } = change;
    SettingsChange {
        vanish_after: None,
        ..change.clone()
    } == SettingsChange::default()
}

pub(crate) fn describes(change: &SettingsChange) -> bool {
    let rest = SettingsChange {
        name: None,
        description: None,
        avatar: None,
        ..change.clone()
    };
    rest == SettingsChange::default()
}

pub(crate) fn valid_settings(settings: &Settings, limits: &Limits) -> bool {
    settings.name.chars().count() <= limits.name_chars_max
        && settings.description.chars().count() <= limits.description_chars_max
        && settings.avatar.len() <= limits.reference_bytes_max
        && settings.retention != Retention::Days(0)
        && settings
            .vanish_after
            .is_none_or(|millis| (1_000..=366 * 86_400_000).contains(&millis))
}

pub(crate) fn valid_content(world: &World, content: &Content) -> bool {
    let limits = &world.limits;
    let short = |text: &String| text.len() <= limits.reference_bytes_max;
    match content {
        Content::Opaque(opaque) => valid_opaque(opaque, limits),
        Content::Text(text) => {
            world.state.settings.encryption == Encryption::None
                && (!text.text.trim().is_empty() || !text.attachments.is_empty())
                && text.text.chars().count() <= limits.text_chars_max
                && text.mentions.len() <= limits.mentions_max
                && text.attachments.len() <= limits.attachments_max
                && text.attachments.iter().all(|file| {
                    !file.reference.is_empty()
                        && file.bytes < 1 << 53
                        && short(&file.reference)
                        && short(&file.name)
                        && short(&file.media_type)
                })
        }
    }
}

pub(crate) fn valid_opaque(opaque: &Opaque, limits: &Limits) -> bool {
    !opaque.content_type.is_empty()
        && opaque.content_type.len() <= limits.reference_bytes_max
        && opaque.bytes.len() <= limits.opaque_bytes_max
}

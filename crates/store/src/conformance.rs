//! The suite that every store passes: one rule a test, its name the sentence that it proves.
//!
//! An implementation says how to open an empty store and invokes the macro in a test of its own:
//!
//! ```
//! use tidings_store::conformance::Fixture;
//! use tidings_store::memory::MemoryStore;
//! use tidings_store::{Store, conformance_tests};
//!
//! struct Opened(MemoryStore);
//!
//! impl Fixture for Opened {
//!     fn store(&self) -> &dyn Store {
//!         &self.0
//!     }
//! }
//!
//! conformance_tests!(|| Opened(MemoryStore::new()));
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a failed expectation is how a test speaks"
)]
#![allow(missing_docs, reason = "the name of a rule is its sentence")]

pub mod altering;
pub mod appending;
pub mod documents;
pub mod erasing;
pub mod inbox;
pub mod marks;
pub mod reading;
pub mod searching;
pub mod states;
pub mod steps;
mod support;
pub mod trimming;

pub use support::wait;

use tidings_core::log::{LogId, Seq};

use crate::Store;

/// A store to be tested, empty at first.
pub trait Fixture {
    /// The store as it is open now.
    fn store(&self) -> &dyn Store;

    /// Closes the store, or kills it, and opens what is durable of it again. What was accepted late
    /// may be lost. False if it cannot: rules about durability then prove nothing.
    fn reopen(&mut self) -> bool {
        false
    }

    /// Makes the store forget the envelopes of trimmed entries up to this one, as it does after some
    /// weeks. False if it cannot: rules about that then prove nothing.
    fn forget_envelopes(&mut self, log: LogId, up_to: Seq) -> bool {
        let _ = (log, up_to);
        false
    }
}

/// Makes a test of every rule. Takes what opens an empty store: `fn() -> impl Fixture`.
#[macro_export]
macro_rules! conformance_tests {
    ($open:expr) => {
        $crate::conformance_tests!(@themes $open;
            appending {
                a_log_never_written_to_has_no_head
                an_append_makes_a_log_of_its_generation
                an_append_carries_on_from_the_head
                many_entries_of_one_append_all_arrive
                an_append_at_another_head_conflicts_and_names_the_head
                an_append_of_another_generation_conflicts
                a_refused_append_changes_nothing
                an_append_without_entries_is_misuse
                entries_that_do_not_follow_on_each_other_are_misuse
                entries_whose_time_falls_are_misuse
                entries_whose_ordinal_falls_are_misuse
                what_belongs_to_an_append_happens_with_it
                an_append_may_erase_what_it_appends
                a_repeated_append_conflicts_and_is_found_by_its_client_id
                of_concurrent_appends_one_wins_at_each_head
                concurrent_appends_to_different_logs_all_arrive
                appends_together_end_each_by_itself
                appended_entries_survive_reopening
            }
            reading {
                entries_are_read_in_order_from_the_first_wanted
                entries_are_read_backwards_from_the_highest_wanted
                pages_join_into_the_whole_log
                a_page_that_comes_to_the_end_is_complete
                a_page_stops_after_the_entry_that_reaches_its_bytes
                at_least_one_entry_is_read_whatever_its_bytes
                beyond_the_ends_there_is_nothing_to_read
                envelopes_alone_come_with_erased_bodies
                every_kind_of_entry_comes_back_as_it_was
                large_bodies_come_back_as_they_were
                entries_of_different_retention_are_read_as_one_log
                logs_of_one_owner_with_different_parts_are_apart
                logs_with_neighbouring_ids_are_apart
            }
            altering {
                edits_are_listed_oldest_first
                a_deletion_is_listed
                reactions_that_stand_are_listed_by_emoji_and_user
                a_reaction_taken_back_is_listed_no_more
                emojis_that_are_prefixes_of_each_other_are_apart
                what_nothing_alters_is_left_out
                alterations_are_those_of_the_log_asked_for
                an_erased_reaction_is_listed_no_more
                a_reaction_put_on_again_takes_the_place_of_the_first
                alterations_survive_reopening
            }
            searching {
                a_client_id_is_found_with_its_seq_and_time
                a_client_id_is_looked_for_by_its_author_and_log
                a_client_id_is_looked_for_only_above
                a_client_id_outlives_its_body
                a_search_below_what_is_kept_is_incomplete
                client_ids_survive_reopening
            }
            trimming {
                a_log_without_a_state_is_not_trimmed
                trimming_stops_at_the_durable_state
                trimming_never_goes_back
                trimmed_entries_are_read_no_more
                envelopes_of_trimmed_entries_are_still_read
                a_log_trimmed_whole_goes_on
                a_log_never_written_to_cannot_be_trimmed
                reactions_to_trimmed_entries_are_served_no_more
                a_trim_survives_reopening
            }
            erasing {
                an_erased_body_is_gone_from_every_read
                erasing_twice_is_erasing_once
                erasing_what_is_not_there_does_nothing
                bodies_of_every_retention_are_erased
                expired_entries_are_listed_earliest_first
                an_entry_expires_at_its_time
                expired_entries_are_listed_up_to_the_limit
                erased_and_trimmed_entries_do_not_expire
                an_erasure_survives_reopening
            }
            marks {
                a_mark_is_raised_and_read
                a_mark_never_goes_down
                a_mark_at_the_same_seq_keeps_the_time_of_its_first_step
                kinds_lanes_owners_and_logs_are_apart
                a_late_mark_is_read_at_once
                of_marks_raised_together_the_highest_counts
                concurrent_raises_end_at_the_highest
                an_append_raises_marks_by_the_same_rule
                marks_of_a_log_come_in_whole_owners
                marks_of_a_log_are_not_those_of_its_neighbours
                marks_at_the_largest_values_come_back
                durable_and_flushed_marks_survive_reopening
            }
            inbox {
                memberships_are_joined_left_and_head_marks
                memberships_come_in_whole_logs_in_their_order
                memberships_are_not_those_of_neighbouring_users
                an_inbox_says_when_it_was_last_touched
                memberships_survive_reopening
            }
            steps {
                the_first_step_past_a_seq_is_found_for_each_owner_and_kind
                a_step_at_the_seq_is_past_it
                steps_are_those_of_the_log_asked_for
                flushed_steps_survive_reopening
            }
            states {
                a_log_has_no_state_at_first
                a_newer_state_takes_the_place_of_an_older_one
                an_older_or_equal_state_is_ignored_whole
                members_of_earlier_states_stay
                named_members_come_in_the_order_of_their_ids
                members_are_paged_in_the_order_of_their_ids
                members_are_those_of_the_log_asked_for
                large_states_with_many_members_come_back
                an_append_writes_its_state
                states_survive_reopening
            }
            documents {
                a_document_that_was_never_put_is_not_there
                a_document_is_made_once
                a_document_is_changed_only_at_its_version
                a_put_without_expectation_always_succeeds
                versions_grow_and_are_never_zero
                a_deleted_document_is_not_there
                an_empty_value_is_a_value
                kinds_of_documents_are_apart
                keys_that_are_prefixes_of_each_other_are_apart
                long_keys_and_values_come_back
                a_scan_gives_the_keys_with_its_prefix_in_order
                a_scan_goes_on_after_a_key
                a_scan_of_the_highest_prefix_ends
                of_concurrent_claims_one_wins
                concurrent_changes_lose_nothing
                documents_survive_reopening
            }
        );
    };
    (@themes $open:expr; $($theme:ident { $($rule:ident)* })*) => {
        $(
            mod $theme {
                #[allow(unused_imports, reason = "the expression may name anything of its module")]
                use super::*;
                $(
                    #[test]
                    fn $rule() {
                        $crate::conformance::$theme::$rule(&mut ($open)());
                    }
                )*
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    struct Memory(MemoryStore);

    impl Fixture for Memory {
        fn store(&self) -> &dyn Store {
            &self.0
        }

        fn reopen(&mut self) -> bool {
            self.0.crash();
            true
        }

        fn forget_envelopes(&mut self, log: LogId, up_to: Seq) -> bool {
            self.0.forget_envelopes(log, up_to);
            true
        }
    }

    mod memory_store {
        use super::*;

        conformance_tests!(|| Memory(MemoryStore::new()));
    }

    #[test]
    fn every_rule_is_in_the_list() {
        let list = include_str!("conformance.rs");
        let themes = [
            include_str!("conformance/altering.rs"),
            include_str!("conformance/appending.rs"),
            include_str!("conformance/documents.rs"),
            include_str!("conformance/erasing.rs"),
            include_str!("conformance/inbox.rs"),
            include_str!("conformance/marks.rs"),
            include_str!("conformance/reading.rs"),
            include_str!("conformance/searching.rs"),
            include_str!("conformance/states.rs"),
            include_str!("conformance/steps.rs"),
            include_str!("conformance/trimming.rs"),
        ];
        let listed: Vec<&str> = list.lines().map(str::trim).collect();
        let rules = themes.iter().flat_map(|theme| theme.lines());
        for rule in rules.filter_map(|line| line.strip_prefix("pub fn ")) {
            let name = rule.split('(').next().unwrap();
            assert!(listed.contains(&name), "{name} is run by nobody");
        }
    }
}

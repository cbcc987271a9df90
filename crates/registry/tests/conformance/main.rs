//! One suite of behaviours over every backend. To add a backend: a [`Fixture`](fixture::Fixture) in `backend/`, and
//! one `conformance!` line here. What every backend does when it is read, the read-only one included, is in the lines
//! that say `reading`.

mod backend;
mod behaviour;
mod document_follower;
mod fixture;
mod follower;
mod intent_follower;

/// Makes each behaviour a test of its own for a backend: `BACKEND::BEHAVIOUR`. After a `;` come those that not every
/// backend can show.
macro_rules! conformance {
    ($backend:ident: $fixture:ty $(; $($module:ident: $behaviour:ident),+)?) => {
        conformance! { @tests $backend: $fixture;
            holding: a_held_instance_is_listed_and_watched,
            holding: ids_of_every_form_survive,
            holding: an_update_is_one_upsert_and_no_absence,
            holding: release_removes_at_once,
            holding: dropping_a_hold_removes_the_instance,
            holding: lost_can_be_cancelled_and_asked_again,
            watching: a_watch_of_an_unknown_service_sees_its_first_instance,
            watching: no_gap_between_list_and_watch,
            watching: names_with_a_common_prefix_are_apart,
            watching: services_are_exactly_those_with_instances,
            watching: revisions_never_go_back,
            claims: a_first_claim_takes_over_and_the_earlier_holder_is_told,
            claims: a_superseded_release_leaves_the_later_instance,
            claims: a_superseded_drop_leaves_the_later_instance,
            claims: a_superseded_update_leaves_the_later_instance,
            claims: claiming_again_is_refused_while_another_holds,
            claims: claiming_again_succeeds_when_the_key_is_gone,
            claims: claiming_if_absent_leaves_whoever_is_there,
            claims: who_claims_if_absent_does_not_give_way_to_itself,
            claims: of_many_who_claim_if_absent_one_has_the_key,
            documents: a_document_is_read_as_it_was_written,
            documents: a_document_says_where_it_was_read,
            documents: a_watch_of_a_document_tells_what_is_there_and_then_each_change,
            documents: no_gap_between_a_document_and_what_follows,
            documents: documents_of_names_with_a_common_prefix_are_apart,
            documents: a_document_is_no_service_and_no_instance,
            intents: an_intent_is_read_as_it_was_written,
            intents: an_intent_says_where_it_was_read,
            intents: a_watch_of_intents_tells_what_is_wanted_and_then_each_change,
            intents: no_gap_between_intents_and_what_follows,
            intents: intents_of_names_with_a_common_prefix_are_apart,
            intents: an_intent_is_no_service_and_no_instance,
            intents: an_intent_stays_whatever_the_owner_does,
            intents: services_are_known_by_whatever_there_is_of_them,
            $($($module: $behaviour,)+)?
        }
    };
    (reading $backend:ident: $readable:ty) => {
        conformance! { @reading $backend: $readable;
            every_field_of_an_instance_survives,
            the_first_item_of_a_watch_is_a_reset,
            each_service_is_read_by_its_whole_name,
            an_instance_says_where_it_was_read,
        }
    };
    (@reading $backend:ident: $readable:ty; $($behaviour:ident,)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    crate::behaviour::reading::$behaviour::<$readable>().await;
                }
            )*
        }
    };
    (@tests $backend:ident: $fixture:ty; $($module:ident: $behaviour:ident,)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let fixture = <$fixture as crate::fixture::Fixture>::start().await;
                    crate::behaviour::$module::$behaviour(&fixture).await;
                }
            )*
        }
    };
}

conformance!(reading fixed: crate::backend::fixed::Fixed);
conformance!(reading memory_read: crate::fixture::Held<crate::backend::memory::Memory>);
conformance!(reading file_read: crate::fixture::Held<crate::backend::file::File>);
conformance!(reading etcd_read: crate::fixture::Held<crate::backend::etcd::OwnWatches>);
conformance!(memory: crate::backend::memory::Memory);
conformance!(file: crate::backend::file::File;
    spoiling: bad_values_are_skipped_and_each_is_counted_once,
    documents: what_is_no_document_is_told_and_what_follows_too,
    intents: what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other);
conformance!(file_polled: crate::backend::file::Polled;
    spoiling: bad_values_are_skipped_and_each_is_counted_once,
    documents: what_is_no_document_is_told_and_what_follows_too,
    intents: what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other);
conformance!(etcd: crate::backend::etcd::OwnWatches;
    spoiling: bad_values_are_skipped_and_each_is_counted_once,
    documents: what_is_no_document_is_told_and_what_follows_too,
    intents: what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other);
conformance!(etcd_shared: crate::backend::etcd::SharedWatch;
    spoiling: bad_values_are_skipped_and_each_is_counted_once,
    documents: what_is_no_document_is_told_and_what_follows_too,
    intents: what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other);
conformance!(reading etcd_dialects_read: crate::fixture::Held<crate::backend::etcd::SeveralDialects>);
conformance!(etcd_dialects: crate::backend::etcd::SeveralDialects;
    spoiling: bad_values_are_skipped_and_each_is_counted_once,
    documents: what_is_no_document_is_told_and_what_follows_too,
    intents: what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other);

//! What the store promises, on every database that it runs on.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod backups;
mod cases_access;
mod cases_admin;
mod cases_artifacts;
mod cases_attempts;
mod cases_claims;
mod cases_combinations;
mod cases_housekeeping;
mod cases_keep;
mod cases_limits;
mod cases_machines;
mod cases_methods;
mod cases_pins;
mod cases_queries;
mod cases_query_limits;
mod cases_query_refusals;
mod cases_reads;
mod cases_reports;
mod cases_selected;
mod cases_submit;
mod cases_varied;
mod cases_verification;
mod cases_workers;
mod clock_steps;
mod durability;
mod fixture;
mod losses;
mod machine;
mod timers;
mod two;

use fixture::{Database, Fixture};

/// Runs each case on the model, where time stands still while anything can go on, and on both real databases.
macro_rules! contract {
    ($($module:ident { $($case:ident,)+ })+) => {
        mod on_the_model {
            use super::*;
            $($(#[tokio::test(start_paused = true)]
            async fn $case() {
                $module::$case(Fixture::new(Database::Model(Default::default())).await).await;
            })+)+
        }
        mod on_sqlite {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                $module::$case(Fixture::new(Database::sqlite()).await).await;
            })+)+
        }
        mod on_postgres {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                let Some(database) = Database::postgres() else { return };
                $module::$case(Fixture::new(database).await).await;
            })+)+
        }
    };
}

contract! {
    cases_access {
        tokens_are_stored_once_and_end_for_good,
        a_rotated_token_ends_after_the_overlap,
        a_coordinators_own_tokens_count_for_its_identity_only,
        what_users_do_stands_in_the_audit_with_who_did_it,
    }
    cases_artifacts {
        a_lease_offers_what_earlier_attempts_at_the_trial_left,
        another_sweeps_checkpoints_are_not_offered,
        a_trial_goes_back_to_the_machine_whose_disk_has_its_checkpoints,
        after_some_minutes_any_machine_gets_it,
        a_trial_whose_checkpoints_are_shared_goes_anywhere,
        every_lease_names_the_first_attempt,
        a_history_shows_what_every_attempt_ran,
        artifacts_reported_again_are_stored_once_and_of_two_the_first_counts,
        an_artifact_that_leads_elsewhere_is_refused,
        a_history_shows_where_an_attempt_took_up_anothers_work,
        a_result_that_contradicts_an_earlier_attempt_is_noted,
        machines_may_differ,
        where_a_workers_artifacts_go_is_reported_when_it_knows,
    }
    cases_keep {
        trials_without_the_files_that_are_kept_run_again_and_keep_their_results_meanwhile,
        with_reuse_anyway_nothing_runs_again_and_what_is_lacking_is_said,
        whatever_is_reused_combinations_get_what_they_are_made_of,
        results_elsewhere_count_only_with_the_files_that_are_kept,
        a_reused_result_that_stands_is_not_deleted_and_comes_back,
        checkpoints_from_before_the_result_are_not_offered,
        an_attempt_that_begins_anew_says_so,
    }
    cases_methods {
        a_result_with_more_methods_serves_a_sweep_that_asks_for_fewer,
        fewer_methods_are_no_result_for_more_and_at_the_lease_neither,
        after_the_first_figure_the_other_presets_train_nothing_twice,
    }
    cases_varied {
        every_trial_is_leased_with_its_own_settings_and_reused_where_they_are_fixed,
        steps_and_weights_are_those_of_the_trial,
        drawn_settings_are_stored_and_more_draws_only_add,
    }
    cases_verification {
        a_resumed_run_is_certified,
        what_differs_is_not_certified,
        what_cannot_be_verified_is_refused,
        a_sweep_that_another_build_planned_waits_and_says_why,
    }
    cases_workers {
        an_attempt_takes_reports_heartbeats_and_its_end_from_its_own_worker_only,
        nobody_else_speaks_for_a_worker,
    }
    cases_submit {
        submitting_again_adds_only_what_is_new_and_refuses_a_changed_fixed_value,
        what_was_added_later_runs_after_what_was_there,
        a_grid_of_many_chunks_is_stored_completely_and_in_order,
        workers_lease_trials_while_a_sweep_is_still_being_stored,
        an_expansion_goes_on_after_a_restart,
        growing_a_sweep_that_is_still_being_stored_loses_and_repeats_nothing,
        results_elsewhere_are_taken_over_at_submit_and_at_lease,
        a_claim_that_finds_only_results_elsewhere_goes_on_looking,
        without_reuse_everything_runs,
        a_failed_trial_is_taken_over_by_nobody,
        a_cancelled_sweep_takes_no_trials_until_it_is_resumed,
        a_sweep_cancelled_in_the_middle_adds_nothing_more,
        a_submission_changes_priority_and_requirements,
        trials_are_added_to_the_sweep_of_the_highest_priority_first,
    }
    clock_steps {
        a_clock_that_is_set_before_a_restart_ends_no_lease_early_and_none_late,
    }
    cases_claims {
        every_trial_is_leased_once_however_many_ask,
        many_tasks_that_claim_at_once_get_every_trial_once,
        trials_are_assigned_in_their_order,
        sweeps_of_one_priority_share_fairly,
        claims_that_come_together_share_fairly_too,
        only_a_worker_that_is_able_gets_a_trial,
        a_worker_learns_what_keeps_it_from_trials_that_wait,
        a_worker_that_is_registered_again_is_the_same,
        idle_is_who_could_get_nothing_before_a_user_acts,
        a_claim_that_leaves_when_idle_waits_for_what_runs,
        a_claim_waits_as_long_as_it_may,
        a_waiting_claim_gets_a_trial_that_is_submitted,
        a_waiting_claim_gets_a_trial_that_is_put_back,
        a_waiting_claim_gets_a_trial_that_a_user_frees,
        two_waiting_claims_share_what_becomes_free,
        a_claim_whose_caller_is_gone_takes_nothing,
        a_claim_dropped_at_any_moment_keeps_no_trial,
        a_paused_or_cancelled_sweep_assigns_nothing_and_lets_run_what_runs,
    }
    cases_combinations {
        a_combination_starts_when_all_its_members_have_a_result,
        a_combination_goes_to_the_machine_whose_disk_has_the_most_of_its_members,
        a_combination_fails_when_a_member_ends_without_a_result_and_is_retried_with_it,
        results_elsewhere_without_the_files_that_a_combination_needs_are_not_taken_over,
        nothing_of_a_combination_is_lost_when_the_coordinator_restarts,
        combinations_elsewhere_are_taken_over_and_more_seeds_add_larger_ones,
    }
    cases_attempts {
        a_stale_attempt_writes_nothing,
        an_expired_lease_that_nobody_took_comes_back_to_life,
        what_comes_back_to_life_in_the_moment_of_a_claim_has_one_holder,
        a_report_revives_a_lease_and_so_does_an_end,
        an_end_reported_again_is_stored_once,
        an_end_reported_again_is_accepted_when_somebody_else_has_the_trial,
        an_attempt_that_was_lost_ends_late_but_once,
        failures_use_up_their_budget_and_say_why_in_one_line,
        each_class_has_a_budget_of_its_own,
        a_trial_that_takes_its_workers_down_ends_some_day,
        a_trial_that_failed_is_not_assigned_before_its_time,
        a_restarted_coordinator_knows_everything_and_gives_attempts_time_to_come_back,
        no_token_is_issued_twice_whatever_restarts,
        after_an_outage_every_lease_gets_time,
    }
    cases_machines {
        a_machine_that_keeps_failing_is_quarantined_for_a_while,
        the_last_fit_machine_is_never_quarantined_for_unknown_faults,
        failures_in_many_slots_keep_a_machine_quarantined,
        of_two_machines_that_fail_together_one_stays,
        only_what_may_be_the_machines_fault_quarantines_it,
        a_machines_own_fault_costs_the_trial_nothing,
        workers_of_one_machine_share_its_standing,
        a_quarantine_is_for_a_kind_of_work,
        a_worker_looks_for_what_trials_need_before_it_gets_one,
        a_trial_that_failed_on_one_machine_goes_to_another,
        trials_for_other_machines_hide_no_others,
        trials_that_no_machine_may_run_wait_and_say_why,
        combinations_over_several_machines_own_disks_are_warned_of,
        a_released_machine_gets_one_trial_until_one_succeeds,
    }
    cases_reports {
        held_out_domains_never_reach_the_validation_table,
        reports_are_numbered_and_repeats_are_stored_once,
        a_batch_repeated_together_with_the_next_is_stored_once,
        numbers_are_kept_to_the_last_bit,
        named_metrics_are_kept_apart_and_to_the_last_bit,
        of_two_rows_about_the_same_thing_the_first_counts,
        many_rows_in_one_batch_all_arrive_in_order,
        what_a_trial_does_not_evaluate_is_refused,
        a_command_may_report_any_domain_that_has_a_plain_name,
        what_a_program_is_given_is_what_was_submitted_first,
        notes_about_an_attempts_output_are_part_of_its_history,
        absurd_numbers_and_texts_hurt_nobody_else,
        other_data_under_the_same_name_is_the_machines_fault,
        of_two_that_would_pin_a_name_at_once_one_does,
        logs_are_read_in_order_by_attempt,
        of_a_log_without_end_the_middle_is_left_out,
    }
    cases_pins {
        what_two_machines_have_counts_and_an_odd_machine_is_quarantined,
        two_machines_that_disagree_hold_the_trials_until_a_user_pins,
        two_machines_that_disagree_hold_the_trials_until_a_user_unpins,
        a_lying_first_worker_breaks_no_honest_trial,
        a_third_machine_that_runs_already_decides,
        other_weights_keep_a_machine_from_those_alone,
        a_machine_alone_may_mend_its_data_before_its_first_result,
        a_name_that_means_nothing_or_two_things_is_refused,
    }
    cases_limits {
        an_attempt_reports_only_so_much,
        of_an_attempts_notes_the_first_are_kept,
        a_database_takes_only_so_many_sweeps_and_trials,
    }
    cases_admin {
        a_cancelled_attempt_is_stale_and_writes_nothing,
        a_filter_and_a_state_say_which_trials_are_meant,
        a_user_action_reaches_every_page,
        trials_are_named_by_their_ids,
        conditions_that_would_miss_trials_are_refused,
        retry_runs_what_ended_without_a_result_and_forgives,
        resume_undoes_the_cancellation_of_a_sweep_and_nothing_else,
        retry_ends_the_wait_after_a_failure,
        a_retried_attempt_that_was_lost_may_still_come_back_until_somebody_has_the_trial,
        an_unknown_sweep_is_named_with_those_that_exist,
    }
    cases_housekeeping {
        a_deleted_sweep_is_gone_with_all_that_was_stored_of_it,
        a_large_sweep_is_removed_also_after_a_restart_and_nobody_reuses_it_meanwhile,
        what_is_needed_is_not_deleted_and_the_refusal_names_who_needs_it,
        a_worker_that_still_runs_a_trial_of_a_deleted_sweep_is_refused,
        a_sweep_that_is_still_being_stored_can_be_deleted_and_renamed,
        a_renamed_sweep_keeps_everything_but_its_name,
        an_archived_sweep_is_out_of_sight_and_keeps_its_results,
    }
    cases_reads {
        status_counts_trials_and_steps,
        progress_never_goes_backwards,
        what_comes_before_the_first_step_is_shown,
        long_answers_come_in_pages,
        a_trial_is_found_by_a_prefix_that_means_only_it,
        a_trials_history_has_everything_in_order,
        workers_are_listed_with_what_they_run,
        what_a_sweep_runs_is_described,
    }
}

/// Runs each case where there is SQL.
macro_rules! sql_contract {
    ($($module:ident { $($case:ident,)+ })+) => {
        mod in_sql_on_sqlite {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                $module::$case(Fixture::new(Database::sqlite()).await).await;
            })+)+
        }
        mod in_sql_on_postgres {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                let Some(database) = Database::postgres() else { return };
                $module::$case(Fixture::new(database).await).await;
            })+)+
        }
    };
}

sql_contract! {
    cases_queries {
        the_columns_are_alike_everywhere_and_documented,
        trials_are_shown_with_the_attempt_that_counts,
        whatever_sql_can_ask_of_the_views_is_answered,
        parameters_become_columns_where_they_are_what_they_should_be,
    }
    cases_query_refusals {
        nothing_but_reading_the_views_is_possible,
    }
    cases_query_limits {
        a_query_without_end_ends,
        only_so_many_run_at_a_time_and_one_that_nobody_reads_ends,
        what_is_too_long_is_refused,
        what_takes_too_much_space_is_refused,
    }
    cases_methods {
        views_show_what_a_sweep_asks_for,
    }
    cases_varied {
        views_have_the_settings_that_vary_as_parameters,
    }
    cases_selected {
        the_view_selects_and_measures_as_the_code_does,
    }
}

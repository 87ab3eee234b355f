"""A data-security page, sentence by sentence: by what each is so, and which tests would fail if it were not.

`python -m tests.security.page` prints the table of README; `make security` runs the tests that it names.
"""

import sys

from msgspec import Struct


class Sentence(Struct, frozen=True):
    """What is promised, by what it is so, and the tests that prove it, as `directory/module::test`."""

    says: str
    safeguard: str
    tests: tuple[str, ...]


PAGE = (
    Sentence(
        "Data in transit is encrypted with TLS 1.2 or newer",
        "listeners and `rediss://` speak 1.2 and 1.3 with ECDHE and AEAD only; certificates are swapped as they change",
        (
            "acceptance/test_tls::test_sslscan_finds_nothing_old_and_nothing_weak",
            "acceptance/test_tls::test_testssl_finds_nothing",
            "acceptance/test_tls::test_an_api_does_not_start_in_the_open",
            "acceptance/test_certificates_swapped::test_certificates_are_swapped_under_load_without_a_failed_request",
            "unit/test_api_tls::test_nothing_weaker_is_spoken",
            "integration/test_redis_tls::test_nothing_below_tls_1_2_is_spoken",
        ),
    ),
    Sentence(
        "Data at rest is encrypted with AES-256 and SHA-256",
        "AES-256-GCM under keys, nonces and a commitment from HKDF-SHA-256, one data key for each job",
        (
            "acceptance/test_canary::test_a_run_with_faults_leaves_no_marker_anywhere",
            "unit/test_seal_vectors::test_sealing_gives_these_bytes",
            "unit/test_seal_vectors::test_what_was_changed_is_refused",
            "unit/test_seal_reference::test_the_reference_opens_what_we_seal",
            "integration/test_keyring::test_a_wrapped_key_opens_in_its_own_place_alone",
            "integration/test_service::test_each_job_has_a_data_key_of_its_own",
        ),
    ),
    Sentence(
        "A customer id can be associated with data",
        "`X-Watson-Metadata`; kept as a keyed digest",
        (
            "integration/test_service::test_nothing_is_stored_in_clear",
            "integration/test_keyring::test_a_customers_tag_is_keyed",
            "integration/test_labels::test_a_url_that_is_registered_again_keeps_its_labels",
            "acceptance/test_customers::test_one_customer_is_erased_and_three_are_not",
            "acceptance/test_customers::test_a_malformed_label_is_400",
        ),
    ),
    Sentence(
        "All data of a customer id can be erased",
        "`DELETE /v1/user_data`, in any state, at once and for good",
        (
            "acceptance/test_customers::test_one_customer_is_erased_and_three_are_not",
            "acceptance/test_customers::test_a_worker_that_finishes_after_the_erasure_leaves_nothing",
            "integration/test_labels::test_an_erased_registration_is_not_brought_back",
        ),
    ),
    Sentence(
        "HIPAA readiness: isolation (45 CFR 164.312(a)(1))",
        "a tenant from the credential alone, in every key and sealing context; foreign ids answered as unknown ones",
        (
            "security/test_strangers::test_every_answer_is_the_same",
            "security/test_strangers::test_no_route_is_left_out",
            "security/test_strangers::test_no_question_takes_more_messages_to_redis",
            "security/test_plans::test_tenants_of_plus_are_told_apart_by_the_context_of_what_is_sealed",
            "integration/test_sandbox::test_a_child_touches_nothing_of_the_same_user",
        ),
    ),
    Sentence(
        "HIPAA readiness: audit controls (45 CFR 164.312(b))",
        "a hash-chained, content-free log, written before what it tells of is acknowledged",
        (
            "acceptance/test_audit::test_the_log_tells_everything_and_holds_nothing",
            "acceptance/test_audit::test_nothing_is_deleted_while_the_log_is_broken",
            "integration/test_audit_crashes::test_the_log_says_what_can_be_concluded",
            "integration/test_audit_edits::test_whatever_is_edited_is_seen",
            "integration/test_audit_tampering::test_a_forged_end_is_seen",
            "integration/test_audit_tampering::test_nothing_of_a_log_is_put_back_once_another_was_begun",
            "integration/test_audit_tampering::test_a_record_taken_out_is_seen",
        ),
    ),
    Sentence(
        "HIPAA readiness: erasure (disposal, 45 CFR 164.310(d)(2)(i))",
        "the wrapped data key goes in the deciding step; Redis's file is rewritten within a stated time",
        (
            "integration/test_erasures::test_no_file_shows_the_key_of_an_erased_job_after_the_horizon",
            "integration/test_erasures::test_every_way_to_erase_is_noted",
            "integration/test_erasures_by_time::test_what_ran_out_counts_from_its_moment",
        ),
    ),
    Sentence(
        "HIPAA readiness: access control and authentication (45 CFR 164.312(a)(1) and (d))",
        "API keys as digests, revoked at once; back-off and limits; one Redis user for each role, bound to its work",
        (
            "integration/test_tenants::test_a_revoked_key_is_useless_at_once",
            "integration/test_tenants::test_a_keys_secret_is_not_kept",
            "unit/test_api_bearer::test_wrong_credentials_are_slowed_and_good_ones_are_not",
            "integration/test_privileges::test_what_a_role_must_not_do_is_refused",
            "integration/test_privileges::test_redis_refuses_whoever_is_no_role",
            "acceptance/test_tenant_limits::test_limits_are_set_met_and_shown",
        ),
    ),
    Sentence(
        "HIPAA readiness: encryption (45 CFR 164.312(a)(2)(iv); in transit (e)(2)(ii), as above)",
        "a root key in a file, in AWS KMS or in an HSM, which it never leaves; tenant keys wrapped by it",
        (
            "integration/test_root_providers::test_another_context_is_refused",
            "integration/test_root_providers::test_what_another_root_wrapped_is_refused",
            "integration/test_root_providers::test_no_secret_is_told",
            "integration/test_root_pkcs11::test_a_key_that_is_not_fit_is_not_used",
            "integration/test_keyring::test_no_key_is_stored_in_clear",
            "integration/test_custody::test_unwrapped_keys_are_dropped_from_memory",
            "acceptance/test_canary::test_the_root_key_is_in_its_file_alone",
        ),
    ),
    Sentence(
        "Customers can create, import and manage their own keys",
        "`volant key`: versions, the states of IBM Key Protect, import with proof of possession",
        (
            "integration/test_key_cli::test_a_key_is_led_through_its_life",
            "integration/test_key_cli::test_a_customer_brings_a_key",
            "unit/test_byok::test_what_is_bad_is_refused_in_the_same_words_after_the_same_work",
            "integration/test_key_dates::test_a_date_counts_although_no_worker_runs",
            "integration/test_custody::test_a_rotation_rewraps_everything_and_touches_no_content",
            "integration/test_key_imports::test_a_destroyed_imported_key_takes_the_same_material_alone",
            "acceptance/test_disabled_keys::test_disabling_a_key_bites_and_enabling_it_lets_work_go_on",
            "acceptance/test_disabled_keys::test_a_destroyed_key_takes_everything_with_it",
        ),
    ),
    Sentence(
        "Plus: tenants share infrastructure and a common key, and are separated logically",
        "a tenant in every key name and sealing context; what is one's does not open as another's",
        (
            "security/test_plans::test_tenants_of_plus_are_told_apart_by_the_context_of_what_is_sealed",
            "security/test_plans::test_premium_is_under_keys_of_its_own",
            "security/test_strangers::test_every_answer_is_the_same",
        ),
    ),
    Sentence(
        "Premium: storage and keys of one's own",
        "a cell that no other tenant has, or had and was not deleted from: its Redis, audio, root key and tenant key",
        (
            "integration/test_cells::test_premium_is_alone_in_its_cell",
            "integration/test_cells_again::test_a_cell_with_data_of_one_who_was_deleted_is_refused",
            "security/test_plans::test_nothing_of_one_cell_opens_with_all_the_keys_of_another",
            "security/test_plans::test_a_cell_knows_nothing_of_the_tenants_of_another",
            "security/test_plans::test_the_root_key_of_one_cell_opens_no_other",
            "security/test_plans::test_premium_is_under_keys_of_its_own",
            "integration/test_moving_keys::test_a_key_that_was_made_here_has_a_fresh_one_in_the_new_cell",
            "integration/test_moving_keys::test_nothing_of_premium_comes_under_the_common_key_of_its_cell",
            "integration/test_moving_keys::test_a_move_does_not_get_around_a_key",
            "acceptance/test_cells::test_a_cell_has_its_own_workers_and_its_own_outages",
        ),
    ),
    Sentence(
        "Public and private endpoints",
        "the listener decides, no header; tenants bound to endpoints and networks",
        (
            "acceptance/test_tls::test_a_tenant_is_served_where_the_operator_says",
            "unit/test_api_endpoints::test_the_listener_decides",
            "unit/test_api_endpoints::test_a_tenant_is_served_in_its_networks",
            "unit/test_api_endpoints::test_the_client_is_the_nearest_hop_that_is_no_proxy",
            "unit/test_api_endpoints::test_every_operation_is_refused_where_the_tenant_is_not_served",
            "unit/test_api_endpoints::test_a_body_is_not_read_where_the_tenant_is_not_served",
        ),
    ),
    Sentence(
        "Requests are logged only where the operator says so, with an opt-out per account and per request",
        "`request_log`, off by default; `X-Watson-Learning-Opt-Out` and `--learning-opt-out`: either is enough",
        (
            "acceptance/test_request_log::test_a_log_that_is_off_keeps_nothing",
            "unit/test_settings::test_the_defaults_agree_with_each_other",
            "acceptance/test_request_log::test_exactly_what_may_be_kept_is_there",
            "acceptance/test_request_log::test_whatever_is_erased_leaves_nothing",
        ),
    ),
    Sentence(
        "Results are kept for one week by default, for less on request",
        "the exact expiry of one key, counted from completion; `results_ttl`",
        (
            "acceptance/test_expiry::test_a_job_is_there_for_its_minute_and_leaves_no_trace_after_it",
            "unit/test_job::test_completing_keeps_the_result_from_now",
            "unit/test_settings::test_the_defaults_agree_with_each_other",
            "unit/test_api_parameters::test_without_results_ttl_the_setting_counts",
            "unit/test_api_parameters::test_a_results_ttl_above_the_longest_is_cut_with_a_warning",
        ),
    ),
    Sentence(
        "A job can be deleted with its results, at once",
        "`DELETE /v1/recognitions/{id}`",
        (
            "acceptance/test_deletes::test_a_deleted_completed_job_is_gone",
            "acceptance/test_deletes::test_a_deleted_waiting_job_never_runs",
            "acceptance/test_deletes::test_a_tenants_deletion_stops_the_work_under_way",
        ),
    ),
    Sentence(
        "Web pages may call the service from the origins that the operator lists (CORS)",
        "`cors_origins`, none by default; no credentials mode",
        (
            "acceptance/test_browser::test_a_page_that_may_use_the_api_can_do_all_that_a_client_does",
            "acceptance/test_browser::test_a_page_that_may_not_use_the_api_is_stopped_by_its_browser",
            "unit/test_api_cors::test_off_there_is_no_such_thing",
            "unit/test_api_cors::test_credentials_and_private_networks_are_never_granted",
            "unit/test_settings::test_the_defaults_agree_with_each_other",
        ),
    ),
)


def table() -> str:
    """Return the table of README."""
    rows = [
        f"| {sentence.says} | {sentence.safeguard} | {'<br>'.join(f'`{name}`' for name in sentence.tests)} |"
        for sentence in PAGE
    ]
    return "\n".join(["| promised | by | tests, under `tests/` |", "|---|---|---|", *rows])


def main() -> None:
    """Print the table; with `--tests`, the tests as pytest takes them."""
    if "--tests" in sys.argv:
        ids = dict.fromkeys(name.replace("::", ".py::") for sentence in PAGE for name in sentence.tests)
        sys.stdout.write("\n".join(f"tests/{name}" for name in ids) + "\n")
    else:
        sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()

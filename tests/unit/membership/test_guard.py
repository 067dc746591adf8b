"""The guard against a partition."""

from wsaas.membership.guard import Guard


def test_it_is_passed_after_renewals_for_a_whole_lease():
    guard = Guard(10)
    assert not guard.is_passed(0)
    for now in (100, 104, 108):
        guard.renewed(now)
        assert not guard.is_passed(now)
    assert not guard.is_passed(109.9)
    assert guard.is_passed(110)


def test_a_failed_renewal_lets_it_count_anew():
    guard = Guard(10)
    for now in range(100, 120, 3):
        guard.renewed(now)
    assert guard.is_passed(119)
    guard.interrupted()
    assert not guard.is_passed(119)
    guard.renewed(120)
    assert not guard.is_passed(129)
    guard.renewed(129)
    assert guard.is_passed(130)


def test_a_pause_of_this_process_lets_it_count_anew():
    guard = Guard(10)
    guard.renewed(100)
    guard.renewed(109)
    # It was stopped meanwhile.
    assert not guard.is_passed(120)
    guard.renewed(120)
    assert not guard.is_passed(121)


def test_processes_that_started_without_contact_have_the_time_of_a_lease_to_join():
    guard = Guard(10)
    assert guard.is_reunited(100)
    guard.started(105)
    guard.connection_changed(101, is_connected=True)
    assert guard.is_reunited(101)
    guard.connection_changed(110, is_connected=False)
    guard.connection_changed(120, is_connected=True)
    assert not guard.is_reunited(129)
    assert guard.is_reunited(130)


def test_before_a_late_first_connection_there_was_no_contact():
    guard = Guard(10)
    guard.started(105)
    guard.connection_changed(106, is_connected=True)
    assert not guard.is_reunited(115)
    assert guard.is_reunited(116)

from wsaas.workers.restart_delay import RestartDelay


def test_a_worker_is_started_at_once_and_then_ever_later():
    delay = RestartDelay()
    assert [round(delay.after(1.0), 1) for _ in range(10)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_a_worker_that_lived_for_a_minute_is_started_at_once():
    delay = RestartDelay()
    for _ in range(5):
        delay.after(59.9)
    assert delay.after(60.0) == 0
    assert delay.after(59.9) == 0.1

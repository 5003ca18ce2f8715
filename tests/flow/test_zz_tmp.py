from tests.bed import *
from tests.flow.acting import *
from projection_guard import RetryPolicy
def test_x(bed):
    guard = bed.guard(retry=RetryPolicy(wait=lambda _: 3600.0))
    planned = Planned("P", "A#1")
    valve = Valve(bed)
    def fail(event): raise ValueError("planned")
    guard.real.projection("P", handles=[Happened])(valve.apart(fail))
    g = going(bed, lambda: guard.publisher.publish(happened("A",1)))
    bed.wait_until(lambda: valve.reached == 1)
    print(guard.publish(happened("A",1)))
    valve.open()
    bed.wait_until(lambda: g.is_done)
    print(g.answer())
    for t in ("projection_streams","projection_failures","projection_parked_events"): print(t, bed.rows(f"select * from {t}"))
    assert 0

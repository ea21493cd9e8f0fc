from runs.messages import CheckMessage
from fault_proxy import http
def test_prof(bench):
    [run_id] = bench.fleet(1)
    m = CheckMessage(run_ids=(run_id,), sent_at=bench.store.true_now())
    with bench.to_workbench.reset(http("*","/batch/*")):
        for i in range(3):
            n=len(bench.to_workbench.calls); bench.check(m); print("PROF reset", len(bench.to_workbench.calls)-n)
    bench.check(m)
    with bench.to_workbench.reset(http("*","/batch/*")):
        n=len(bench.to_workbench.calls); bench.check(m); print("PROF warm reset", len(bench.to_workbench.calls)-n)
    bench.check(m)
    with bench.to_workbench.limit(10, http("*","/batch/*")):
        n=len(bench.to_workbench.calls); bench.check(m); print("PROF limit", len(bench.to_workbench.calls)-n)

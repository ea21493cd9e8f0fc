from datetime import timedelta
from itertools import pairwise
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, invariant, precondition
from fakes import *
from runs.errors import *
from runs.ports import *
from runs.status import *
from runs.messages import *
S=PipelineRunStatus
class M(RuleBasedStateMachine):
    def __init__(self):
        super().__init__(); self.w=World(); self.ended={}; self.jobs={}
    def guard(self,f):
        try: return f()
        except (Crash,): self.w.restart()
        except (DatabaseUnavailable, SubmissionFailed, PipelineNotFound, IdempotencyKeyReused): pass
    @rule(key=st.sampled_from("abc"),mode=st.sampled_from(PipelineMode),a=st.booleans())
    def post(self,key,mode,a): self.guard(lambda: self.w.submit(key=key,fingerprint=mode,mode=mode,respond_async=a))
    @rule(c=st.sampled_from([Course.answer_lost(),Course.answer_lost(reaches=False),Course.hanging(),Course(seconds=12),Course.failed(CallEnd.CLIENT_ERROR,"no"),Course.failed(CallEnd.SERVER_ERROR,"no"),Course.answered("../x"),Course.ended(WorkflowStatus.TERMINATED,reaches=True)]))
    def course(self,c): self.w.conductor.courses.append(c)
    @rule(f=st.sampled_from(list(StartFault)))
    def fault(self,f): self.w.conductor.start_faults.append(f)
    @rule(n=st.integers(0,30), e=st.sampled_from(["crash","db"]))
    def strike(self,n,e): self.w.steps.strike(n, DatabaseUnavailable("x") if e=="db" else None)
    @rule(b=st.booleans())
    def down(self,b): self.w.workbench.down=NoAnswer(reason="x") if b else None
    @rule(b=st.booleans())
    def cdown(self,b): self.w.conductor.down=b
    @rule()
    def minute(self): self.guard(self.w.begin_minute)
    @rule()
    def tick(self): self.guard(self.w.sweep)
    @rule()
    def deliver(self): self.guard(self.w.deliver)
    @rule(i=st.integers(0,50))
    def again(self,i):
        sent=self.w.check_queue.sent+self.w.retry_queue.sent
        if sent: self.guard(lambda: self.w.checking.check([sent[i%len(sent)].message],within=timedelta(minutes=1)))
    @rule()
    def purge(self): self.w.check_queue.waiting.clear(); self.w.retry_queue.waiting.clear()
    @rule(s=st.sampled_from([1,5,10,20,30,60]))
    def pas(self,s): self.w.pass_time(s)
    @rule(s=st.sampled_from([-60,60,600]))
    def skew(self,s): self.w.database.skew+=timedelta(seconds=s)
    @rule(word=st.sampled_from(["RUNNING","QUEUED","DONE","FAILED","STOPPED","MELTED"]),i=st.integers(0,5))
    def become(self,word,i):
        ids=sorted(self.w.database.runs)
        if ids:
            r=ids[i%len(ids)]
            for j in self.w.workbench.jobs_for(r):
                if j.answer.upstream_status not in ("DONE","FAILED","STOPPED"): self.w.workbench.become(word,run=r)
    @rule()
    def relay(self): self.guard(self.w.publishing.relay)
    @invariant()
    def inv(self):
        for r in self.w.database.runs.values():
            ev=self.w.history(r.id)
            assert r.version==len(ev) and [e.version for e in ev]==list(range(1,len(ev)+1))
            assert ev[-1].status is r.status
            for a,b in pairwise(ev):
                assert b.status in TRANSITIONS[a.status] and b.previous_status is a.status and a.at<=b.at
            if r.id in self.ended: assert self.ended[r.id]==(r.status,r.version,r.error,r.completed_at,r.output)
            if r.is_terminal: self.ended[r.id]=(r.status,r.version,r.error,r.completed_at,r.output)
            if r.id in self.jobs: assert self.jobs[r.id]==r.workbench_job_id
            if r.workbench_job_id: self.jobs[r.id]=r.workbench_job_id
            if r.mode is PipelineMode.BATCH: assert len(self.w.workbench.jobs_for(r.id))<=1
            else: assert len(self.w.conductor.starts_for(r.id))<=1
            if r.next_check_at: assert r.next_check_at-self.w.database.now<=timedelta(minutes=15+20)
            # P9
            for j in self.w.workbench.jobs_for(r.id):
                if r.is_terminal and r.workbench_job_id!=j.id: assert r.id in self.w.database.strays,(r,)
    def teardown(self):
        w=self.w; w.steps.spare(); w.workbench.down=None; w.conductor.down=False; w.conductor.start_faults.clear(); w.conductor.courses.clear(); w.bus.down=False
        w.database.skew=max(w.database.skew, timedelta(0)) 
        for r in sorted(w.database.runs): 
            for j in w.workbench.jobs_for(r):
                if j.answer.upstream_status not in ("DONE","FAILED","STOPPED"): w.workbench.become("DONE",run=r)
        for _ in range(30): w.go_on(60)
        for r in sorted(w.database.runs):
            for j in w.workbench.jobs_for(r): 
                if j.answer.upstream_status not in ("DONE","FAILED","STOPPED"): w.workbench.become("DONE",run=r)
        w.go_on(180)
        for r in w.database.runs.values():
            assert r.is_terminal, r
            for e in w.history(r.id): assert (r.id,e.version) in w.database.published
        self.inv()
def test_m():
    hypothesis.stateful.run_state_machine_as_test(M, settings=hypothesis.settings(max_examples=1500, stateful_step_count=40, deadline=None, derandomize=False, suppress_health_check=list(hypothesis.HealthCheck)))

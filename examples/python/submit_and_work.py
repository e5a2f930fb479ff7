"""Example that submits a job and runs it, with nothing but the .proto files.

    pip install -r requirements.txt
    python submit_and_work.py

The server is http://127.0.0.1:50051 or the one in JOBQUEUE_SERVER. Prints the finished job as JSON.
"""

import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc

WORKER_ID = "example-python"
PROTO = Path(__file__).resolve().parents[2] / "proto"
# A call without a deadline waits for ever when the other side hangs.
CALL_SECONDS = 10
POLL_SECONDS = 20


def generated():
    """Generates the messages and stubs into a temporary folder, and returns their modules."""
    files = sorted(str(file.relative_to(PROTO)) for file in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as out:
        arguments = ["protoc", f"-I{PROTO}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
        if protoc.main([*arguments, f"--python_out={out}", f"--grpc_python_out={out}", *files]) != 0:
            sys.exit("the .proto files cannot be compiled")
        sys.path.insert(0, out)
        from jobqueue.v1 import job_service_pb2, job_service_pb2_grpc, worker_service_pb2, worker_service_pb2_grpc
    return job_service_pb2, job_service_pb2_grpc, worker_service_pb2, worker_service_pb2_grpc


jobs, jobs_grpc, workers, workers_grpc = generated()


def heartbeats(api, session, stop):
    """Sends heartbeats, which keep the session alive, until `stop` is set."""
    every = session.heartbeat_interval.seconds + session.heartbeat_interval.nanos / 1e9
    while not stop.wait(every):
        try:
            reply = api.Heartbeat(workers.HeartbeatRequest(session_id=session.session_id), timeout=every)
        except grpc.RpcError as error:
            # UNAVAILABLE is temporary; FAILED_PRECONDITION would mean that the session has ended.
            print(f"heartbeat: {error.code().name}", file=sys.stderr)
            continue
        for lease in reply.stop:
            print(f"job {lease.job_id} should stop", file=sys.stderr)


def acquire(api, session, acquire_no):
    """Acquires the next job. The call is repeated under the same acquire_no until there is an answer, so that jobs of a
    lost answer are given again."""
    request = workers.AcquireJobsRequest(
        session_id=session.session_id, max_jobs=1, acquire_no=acquire_no, wait=Duration(seconds=POLL_SECONDS)
    )
    while True:
        try:
            return api.AcquireJobs(request, timeout=POLL_SECONDS + CALL_SECONDS).jobs
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(1)


def run(job):
    """Handler of the task: greets the person that the payload names."""
    name = json.loads(job.payload_json)["name"]
    return json.dumps({"greeting": f"Hello, {name}!"})


def settlement(leased):
    try:
        complete = workers.Settlement.Complete(result_json=run(leased.job))
        return workers.Settlement(lease_id=leased.lease_id, complete=complete)
    except Exception as error:  # an error in a job fails the job, and not the worker
        fail = workers.Settlement.Fail(error=f"{type(error).__name__}: {error}")
        return workers.Settlement(lease_id=leased.lease_id, fail=fail)


def work_until_done(api, job_id):
    session = api.RegisterSession(
        workers.RegisterSessionRequest(
            worker_id=WORKER_ID,
            host=socket.gethostname(),
            pid=os.getpid(),
            version="python example",
            tasks=["greet"],
            slots=1,
            lease_time=Duration(seconds=30),
        ),
        timeout=CALL_SECONDS,
    )
    stop = threading.Event()
    threading.Thread(target=heartbeats, args=(api, session, stop), daemon=True).start()
    try:
        acquire_no, mine = 1, False
        while not mine:
            for leased in acquire(api, session, acquire_no):
                settle = workers.SettleJobsRequest(session_id=session.session_id, settlements=[settlement(leased)])
                result = api.SettleJobs(settle, timeout=CALL_SECONDS).results[0]
                print(f"job {leased.job.id}: {result.message or 'accepted'}", file=sys.stderr)
                mine = mine or leased.job.id == job_id
            acquire_no += 1
    finally:
        stop.set()
        api.EndSession(workers.EndSessionRequest(session_id=session.session_id), timeout=CALL_SECONDS)


def main():
    server = os.environ.get("JOBQUEUE_SERVER", "http://127.0.0.1:50051").removeprefix("http://")
    with grpc.insecure_channel(server, options=[("grpc.enable_http_proxy", 0)]) as channel:
        job_api = jobs_grpc.JobServiceStub(channel)
        submitted = job_api.SubmitJob(
            jobs.SubmitJobRequest(worker_id=WORKER_ID, task="greet", payload_json='{"name": "Ada"}'),
            timeout=CALL_SECONDS,
        )
        why = job_api.ExplainJob(jobs.ExplainJobRequest(job_id=submitted.job_id), timeout=CALL_SECONDS)
        print(f"why it does not run yet: {why.sentence}", file=sys.stderr)
        work_until_done(workers_grpc.WorkerServiceStub(channel), submitted.job_id)
        job = job_api.GetJob(jobs.GetJobRequest(job_id=submitted.job_id), timeout=CALL_SECONDS).job
        print(json.dumps(MessageToDict(job, preserving_proto_field_name=True), indent=2))


if __name__ == "__main__":
    main()

"""gRPC's interoperability cases through this workspace's channel, against Python's gRPC server: one, and two in turn.

Usage: interop.py INTEROP_CLIENT PROTO_DIRECTORY, with the packages of greeter-server's requirements.txt installed;
`just interop-cases` does all of it.
"""

import concurrent.futures
import json
import shutil
import subprocess
import sys
import tempfile
import unittest

import grpc
import grpc_tools.protoc

CONTRACT = "grpc/testing/test.proto"
RUN_SECONDS = 120
LARGEST = 4 << 20
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
# Python's server does not tell a servicer whether a request was compressed, which this case asks of it. That it reads
# compressed requests is what `compressed_unary` shows.
NOT_OF_THIS_SERVER = {"client_compressed_unary"}


def generate(proto_directory, into):
    """Generates the service from the same contract that the client is built of, apart from the package `grpc`."""
    shutil.copy(f"{proto_directory}/{CONTRACT}", f"{into}/interop.proto")
    arguments = ["protoc", f"-I{into}", f"--python_out={into}", f"--grpc_python_out={into}"]
    if grpc_tools.protoc.main([*arguments, "interop.proto"]) != 0:
        sys.exit(f"interop.py: protoc refused {proto_directory}/{CONTRACT}")
    sys.path.insert(0, str(into))


def servicer():
    """grpc.testing.TestService; UnimplementedCall is not in its contract, and so is not found."""
    import interop_pb2
    import interop_pb2_grpc

    def payload(size, context):
        if not 0 <= size <= LARGEST:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a payload of {size} bytes; 0 to {LARGEST} would do")
        return interop_pb2.Payload(body=bytes(size))

    def echo_metadata(context):
        for key, value in context.invocation_metadata():
            if key == ECHO_INITIAL:
                context.send_initial_metadata([(key, value)])
            elif key == ECHO_TRAILING:
                context.set_trailing_metadata([(key, value)])

    def echo_status(request, context):
        wanted = request.response_status
        if wanted.code:
            codes = {code.value[0]: code for code in grpc.StatusCode}
            context.abort(codes.get(wanted.code, grpc.StatusCode.UNKNOWN), wanted.message)

    def responses(request, context):
        echo_status(request, context)
        for wanted in request.response_parameters:
            yield interop_pb2.StreamingOutputCallResponse(payload=payload(wanted.size, context))

    class TestService(interop_pb2_grpc.TestServiceServicer):
        def EmptyCall(self, request, context):
            return interop_pb2.Empty()

        def UnaryCall(self, request, context):
            if request.response_compressed.value:
                context.set_compression(grpc.Compression.Gzip)
            echo_metadata(context)
            echo_status(request, context)
            return interop_pb2.SimpleResponse(payload=payload(request.response_size, context))

        def StreamingOutputCall(self, request, context):
            yield from responses(request, context)

        def StreamingInputCall(self, requests, context):
            size = sum(len(request.payload.body) for request in requests)
            return interop_pb2.StreamingInputCallResponse(aggregated_payload_size=size)

        def FullDuplexCall(self, requests, context):
            echo_metadata(context)
            for request in requests:
                yield from responses(request, context)

    return TestService()


class Calls(grpc.ServerInterceptor):
    """Counts the calls of a server, those to nothing included."""

    def __init__(self):
        self.methods = []

    def intercept_service(self, continuation, details):
        self.methods.append(details.method)
        return continuation(details)

    def count(self):
        return len(self.methods)


class Server:
    """Python's gRPC server, on a free port."""

    def __init__(self):
        import interop_pb2_grpc

        self.calls = Calls()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(), interceptors=[self.calls])
        interop_pb2_grpc.add_TestServiceServicer_to_server(servicer(), self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def stop(self):
        self.server.stop(grace=None).wait()


class Cases(unittest.TestCase):
    client: str

    def start(self, count):
        servers = [Server() for _ in range(count)]
        for server in servers:
            self.addCleanup(server.stop)
        return servers

    def run_client(self, servers):
        """Runs the client to its end and returns its verdicts: why each case failed, or None."""
        target = "static:///" + ",".join(server.address for server in servers)
        command = [self.client, "--target", target, "--output", "json"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
        verdicts = [json.loads(line) for line in ended.stdout.splitlines()]
        failures = {verdict["case"]: verdict["failure"] for verdict in verdicts}
        self.assertTrue(failures, f"the client ran nothing: {ended.stderr}")
        self.assertEqual(ended.returncode, int(any(failures.values())), ended.stderr)
        return failures

    def assert_all_pass(self, servers):
        failures = self.run_client(servers)
        for case in failures.keys() - NOT_OF_THIS_SERVER:
            with self.subTest(case=case):
                self.assertIsNone(failures[case])
        for case in NOT_OF_THIS_SERVER:
            self.assertIn("does not see that a request is not compressed", failures[case])

    def test_every_case_passes_against_a_python_server(self):
        self.assert_all_pass(self.start(1))

    def test_every_case_passes_over_two_python_servers_in_turn(self):
        servers = self.start(2)
        self.assert_all_pass(servers)
        calls = [server.calls.count() for server in servers]
        self.assertGreater(min(calls), 5, f"calls of each server: {calls}")


def main(client, proto_directory):
    with tempfile.TemporaryDirectory() as directory:
        generate(proto_directory, directory)
        Cases.client = client
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(Cases)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        return result.wasSuccessful()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(0 if main(*sys.argv[1:]) else 1)

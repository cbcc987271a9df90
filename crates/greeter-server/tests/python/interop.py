"""A gRPC client in another language on a real greeter-server: every call, health and reflection.

Usage: interop.py GREETER_SERVER PROTO_DIRECTORY, with the packages of requirements.txt installed;
`just python-test` does all of it.
"""

import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import grpc
import grpc_tools.protoc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "helloworld.Greeter"
SERVING = health_pb2.HealthCheckResponse.SERVING
START_SECONDS = 30
CALL_SECONDS = 10
STOP_SECONDS = 60


def generate(proto_directory, into):
    """Generates the client from the same contract that the server is built of."""
    arguments = ["protoc", f"-I{proto_directory}", f"--python_out={into}", f"--grpc_python_out={into}"]
    if grpc_tools.protoc.main([*arguments, "helloworld.proto"]) != 0:
        sys.exit(f"interop.py: protoc refused {proto_directory}/helloworld.proto")
    sys.path.insert(0, str(into))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A greeter-server that registers with nobody: whoever calls here knows its address."""

    def __init__(self, binary, directory):
        self.address = f"127.0.0.1:{free_port()}"
        self.log = Path(directory, "log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "--listen", self.address, "--registry", "memory:"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.channel = grpc.insecure_channel(self.address)
        if not self.connected():
            self.process.kill()
            sys.exit(f"interop.py: {binary} does not serve; it said:\n{self.log.read_text()}")

    def connected(self):
        ready = grpc.channel_ready_future(self.channel)
        give_up = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < give_up:
            try:
                ready.result(timeout=0.1)
                return True
            except grpc.FutureTimeoutError:
                pass
        return False

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Waits until the server is gone, with a bound."""
        self.channel.close()
        try:
            return self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"none within {STOP_SECONDS} s of SIGTERM"


class Greeter(unittest.TestCase):
    server: Server

    def setUp(self):
        import helloworld_pb2
        import helloworld_pb2_grpc

        self.request = helloworld_pb2.HelloRequest
        self.stub = helloworld_pb2_grpc.GreeterStub(self.server.channel)

    def greeting(self, name):
        return f"Hello {name} from {self.server.address}"

    def test_say_hello_answers_with_the_name_and_the_address(self):
        reply = self.stub.SayHello(self.request(name="Python"), timeout=CALL_SECONDS)
        self.assertEqual(reply.message, self.greeting("Python"))

    def test_say_hello_takes_a_name_that_is_not_ascii(self):
        reply = self.stub.SayHello(self.request(name="Žofie 世界"), timeout=CALL_SECONDS)
        self.assertEqual(reply.message, self.greeting("Žofie 世界"))

    def test_say_hello_stream_reply_streams_greetings_and_ends(self):
        replies = list(self.stub.SayHelloStreamReply(self.request(name="Python"), timeout=CALL_SECONDS))
        self.assertGreater(len(replies), 1)
        for reply in replies:
            self.assertIn(self.greeting("Python"), reply.message)

    def test_say_hello_bidi_stream_answers_each_name_before_the_next_is_sent(self):
        names = queue.SimpleQueue()
        replies = self.stub.SayHelloBidiStream(iter(names.get, None), timeout=CALL_SECONDS)
        for name in ("one", "two", "three"):
            names.put(self.request(name=name))
            self.assertEqual(next(replies).message, self.greeting(name))
        names.put(None)
        self.assertEqual(list(replies), [])

    def test_an_unknown_method_is_unimplemented(self):
        call = self.server.channel.unary_unary(f"/{SERVICE}/SayGoodbye")
        with self.assertRaises(grpc.RpcError) as raised:
            call(b"", timeout=CALL_SECONDS)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)


class Health(unittest.TestCase):
    server: Server

    def setUp(self):
        self.stub = health_pb2_grpc.HealthStub(self.server.channel)

    def test_check_finds_the_server_and_the_service_serving(self):
        for service in ("", SERVICE):
            with self.subTest(service=service):
                request = health_pb2.HealthCheckRequest(service=service)
                self.assertEqual(self.stub.Check(request, timeout=CALL_SECONDS).status, SERVING)

    def test_check_of_an_unknown_service_is_not_found(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=CALL_SECONDS)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_watch_tells_the_present_state_at_once(self):
        watch = self.stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=CALL_SECONDS)
        self.assertEqual(next(watch).status, SERVING)
        watch.cancel()


class Reflection(unittest.TestCase):
    server: Server

    def setUp(self):
        self.database = ProtoReflectionDescriptorDatabase(self.server.channel)

    def test_the_services_are_listed(self):
        services = self.database.get_services()
        self.assertIn(SERVICE, services)
        self.assertIn("grpc.health.v1.Health", services)

    def test_the_greeter_is_described(self):
        service = DescriptorPool(self.database).FindServiceByName(SERVICE)
        kinds = {
            method.name: (method.client_streaming, method.server_streaming, method.input_type.full_name)
            for method in service.methods
        }
        request = "helloworld.HelloRequest"
        self.assertEqual(
            kinds,
            {
                "SayHello": (False, False, request),
                "SayHelloStreamReply": (False, True, request),
                "SayHelloBidiStream": (True, True, request),
            },
        )


class Stopping(unittest.TestCase):
    server: Server

    def test_a_watcher_of_health_is_told_and_the_server_exits_with_0(self):
        stub = health_pb2_grpc.HealthStub(self.server.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=STOP_SECONDS)
        self.assertEqual(next(watch).status, SERVING)
        self.server.terminate()
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
        watch.cancel()
        self.assertEqual(self.server.exit_code(), 0)


def main(binary, proto_directory):
    with tempfile.TemporaryDirectory() as directory:
        generate(proto_directory, directory)
        server = Server(binary, directory)
        suite = unittest.TestSuite()
        for case in (Greeter, Health, Reflection, Stopping):  # in this order: the last one stops the server
            case.server = server
            suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
        try:
            result = unittest.TextTestRunner(verbosity=2).run(suite)
        finally:
            if server.process.poll() is None:
                server.terminate()
                server.exit_code()
        if not result.wasSuccessful():
            print(f"greeter-server said:\n{server.log.read_text()}")
        failed = len(result.failures) + len(result.errors)
        print(f"python interop: {result.testsRun - failed} passed, {failed} failed", flush=True)
        return failed


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(1 if main(*sys.argv[1:]) else 0)

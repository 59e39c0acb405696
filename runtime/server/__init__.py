"""The server: a service that knows no transport, and thin front ends for HTTP and gRPC."""

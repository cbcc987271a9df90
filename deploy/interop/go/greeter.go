package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// helloworld.Greeter without generated code: HelloRequest and HelloReply are one text in field 1, and so is StringValue.

const service, method = "helloworld.Greeter", "SayHello"

func sayHello(ctx context.Context, conn grpc.ClientConnInterface, name string, opts ...grpc.CallOption) (string, error) {
	reply := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, "/"+service+"/"+method, wrapperspb.String(name), reply, opts...)
	return reply.GetValue(), err
}

func greeting(name, address string) string { return "Hello " + name + " from " + address }

// greeter is the service as the instance at address answers for it.
func greeter(address string) *grpc.ServiceDesc {
	handle := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		name := new(wrapperspb.StringValue)
		if err := decode(name); err != nil {
			return nil, err
		}
		return wrapperspb.String(greeting(name.GetValue(), address)), nil
	}
	return &grpc.ServiceDesc{
		ServiceName: service,
		Methods:     []grpc.MethodDesc{{MethodName: method, Handler: handle}},
	}
}

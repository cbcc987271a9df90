package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"google.golang.org/grpc"
)

const (
	target = "greeter"
	ttl    = 10 // seconds
	// how long etcd may take for one request, and the last calls for their end
	limit = 5 * time.Second
)

// serve answers, registered under target, until it is interrupted or its registration is lost.
func serve(ctx context.Context, etcd *clientv3.Client) error {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	address, err := advertised(etcd, listener)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(greeter(address), nil)
	go func() {
		if err := server.Serve(listener); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	defer stop(server)

	lease, err := register(ctx, etcd, address)
	if err != nil {
		return err
	}
	fmt.Println("serving at", address)
	if err := keep(ctx, etcd, lease); err != nil {
		return err
	}
	return deregister(etcd, address, lease)
}

// advertised is where others reach the listener: at the address from which this host reaches etcd.
func advertised(etcd *clientv3.Client, listener net.Listener) (string, error) {
	route, err := net.Dial("udp", etcd.Endpoints()[0])
	if err != nil {
		return "", err
	}
	defer route.Close()
	host := route.LocalAddr().(*net.UDPAddr).IP.String()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return net.JoinHostPort(host, port), err
}

func register(ctx context.Context, etcd *clientv3.Client, address string) (clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	manager, err := endpoints.NewManager(etcd, target)
	if err != nil {
		return 0, err
	}
	lease, err := etcd.Grant(ctx, ttl)
	if err != nil {
		return 0, err
	}
	endpoint := endpoints.Endpoint{Addr: address}
	return lease.ID, manager.AddEndpoint(ctx, target+"/"+address, endpoint, clientv3.WithLease(lease.ID))
}

// keep ends without an error when ctx does.
func keep(ctx context.Context, etcd *clientv3.Client, lease clientv3.LeaseID) error {
	renewals, err := etcd.KeepAlive(ctx, lease)
	if err != nil {
		return err
	}
	for range renewals {
	}
	if ctx.Err() == nil {
		return errors.New("the lease is lost")
	}
	return nil
}

func deregister(etcd *clientv3.Client, address string, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	manager, err := endpoints.NewManager(etcd, target)
	if err != nil {
		return err
	}
	if err := manager.DeleteEndpoint(ctx, target+"/"+address); err != nil {
		return err
	}
	_, err = etcd.Revoke(ctx, lease)
	return err
}

func stop(server *grpc.Server) {
	defer time.AfterFunc(limit, server.Stop).Stop()
	server.GracefulStop()
}

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// call fails when a call does, when an instance answers with another's address, or when too few instances answer.
func call(ctx context.Context, etcd *clientv3.Client, args []string) error {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	target := flags.String("target", "etcd:///greeter", "whom to call")
	policy := flags.String("policy", "", "gRPC's load balancing policy (default: gRPC's own, pick_first)")
	calls := flags.Int("calls", 0, "how many calls (default: until interrupted)")
	interval := flags.Duration("interval", 20*time.Millisecond, "the time between two calls")
	timeout := flags.Duration("timeout", 5*time.Second, "the deadline of a call")
	instances := flags.Int("instances", 1, "how many instances have to answer")
	flags.Parse(args)

	conn, err := dial(etcd, *target, *policy)
	if err != nil {
		return err
	}
	defer conn.Close()

	answers, failed := map[string]int{}, 0
	tick := time.NewTicker(*interval)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil && (*calls == 0 || n < *calls); n++ {
		address, err := callOnce(conn, *timeout)
		if err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "%d: %v\n", n, err)
		} else {
			answers[address]++
			fmt.Printf("%d: %s\n", n, greeting(caller, address))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return judge(answers, failed, *instances)
}

func dial(etcd *clientv3.Client, target, policy string) (*grpc.ClientConn, error) {
	builder, err := resolver.NewBuilder(etcd)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}
	if policy != "" {
		config := fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, policy)
		opts = append(opts, grpc.WithDefaultServiceConfig(config))
	}
	return grpc.NewClient(target, opts...)
}

const caller = "Go"

// callOnce returns the address of the instance that answered. An interruption lets a call end, so that none fails by it.
func callOnce(conn *grpc.ClientConn, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var from peer.Peer
	reply, err := sayHello(ctx, conn, caller, grpc.Peer(&from))
	if err != nil {
		return "", err
	}
	address := from.Addr.String()
	if reply != greeting(caller, address) {
		return "", fmt.Errorf("%s answered %q", address, reply)
	}
	return address, nil
}

func judge(answers map[string]int, failed, wanted int) error {
	calls := failed
	for address, n := range answers {
		calls += n
		fmt.Printf("%s answered %d calls\n", address, n)
	}
	fmt.Printf("%d calls, %d failed, %d instances\n", calls, failed, len(answers))
	if failed > 0 {
		return fmt.Errorf("%d of %d calls failed", failed, calls)
	}
	if len(answers) < wanted {
		return fmt.Errorf("%d instances answered, and not %d", len(answers), wanted)
	}
	return nil
}

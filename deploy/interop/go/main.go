// Command interop is a Go service on etcd's own naming package, with nothing of this project in it: a caller that
// resolves a name with naming/resolver, and a greeter that registers with naming/endpoints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const usage = `usage: interop [-etcd HOST:PORT,...] COMMAND
  call   call greeters by their name; "interop call -h" lists its flags
  serve  be one of the greeters, until interrupted
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	endpoints := flag.String("etcd", "127.0.0.1:2379", "the etcd members")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flag.Parse()

	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(*endpoints, ","),
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("etcd at %s: %w", *endpoints, err)
	}
	defer etcd.Close()

	switch flag.Arg(0) {
	case "call":
		return call(ctx, etcd, flag.Args()[1:])
	case "serve":
		return serve(ctx, etcd)
	default:
		return errors.New("say call or serve")
	}
}

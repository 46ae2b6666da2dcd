// Command viewer connects to a device and writes its video to standard output, to be
// played by whatever plays H.264:
//
//	go run ./examples/viewer http://localhost:5080 CAM01 "$TOKEN" | ffplay -f h264 -
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/turnpike-rtc/turnpike/client"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: viewer SERVER DEVICE TOKEN")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := watch(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "viewer:", err)
		os.Exit(1)
	}
}

func watch(ctx context.Context, server, device, token string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	conn, err := client.New(client.Config{Server: server, OnState: func(s client.State, cause error) {
		fmt.Fprintln(os.Stderr, "viewer:", s, cause)
		if s == client.Disconnected {
			stop()
		}
	}})
	if err != nil {
		return err
	}
	defer conn.Close()
	out := bufio.NewWriter(os.Stdout)
	show := client.VideoOutput(func(f client.VideoFrame) {
		if _, err := out.Write(f.Data); err != nil || out.Flush() != nil {
			stop() // the player has gone
		}
	})
	if err := conn.Attach(0, show); err != nil {
		return err
	}
	if err := conn.Connect(ctx, device, token); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

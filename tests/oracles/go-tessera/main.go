// Command go-tessera writes entries of 300 bytes into a Tessera POSIX log as fast as callers can, and prints one line of
// JSON like the example ledger_load of shuyu-ledger.
//
//	go-tessera DIR ENTRIES CALLERS
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: go-tessera DIR ENTRIES CALLERS")
	}
	entries, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	callers, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	ctx := context.Background()
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/tessera")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: os.Args[1]})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(200*time.Millisecond).
		WithBatching(4096, 20*time.Millisecond).
		WithPushback(uint(2*callers))
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	var next atomic.Uint64
	waits := make([][]time.Duration, callers)
	failures := make([]error, callers)
	var group sync.WaitGroup
	begun := time.Now()
	for caller := range callers {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := next.Add(1) - 1; n < entries; n = next.Add(1) - 1 {
				data := make([]byte, 300)
				binary.BigEndian.PutUint64(data, n)
				_, _ = rand.Read(data[8:])
				due := time.Now()
				if _, err := appender.Add(ctx, tessera.NewEntry(data))(); err != nil {
					failures[caller] = err
					return
				}
				waits[caller] = append(waits[caller], time.Since(due))
			}
		}()
	}
	group.Wait()
	durable := time.Since(begun)
	if err := shutdown(ctx); err != nil {
		return err
	}
	included := time.Since(begun)
	var all []time.Duration
	for caller, own := range waits {
		if failures[caller] != nil {
			return failures[caller]
		}
		all = append(all, own...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(share int) float64 { return float64(all[len(all)*share/1000].Microseconds()) / 1000 }
	fmt.Printf("{\"entries\": %d, \"durable_s\": %.4f, \"included_s\": %.4f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
		len(all), durable.Seconds(), included.Seconds(), at(500), at(990))
	return nil
}

// Command fsck is Tessera's own check of a whole tlog-tiles log, with an exit status (upstream's cmd/fsck always ends with 0).
//
//	fsck URL-OR-DIR VKEY
//
// Exit status: 0 everything holds, 1 it does not, 2 usage.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fsck URL-OR-DIR VKEY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println("does not hold:", err)
		os.Exit(1)
	}
	fmt.Println("holds")
}

func run(place, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	var source fsck.Fetcher = &client.FileFetcher{Root: place}
	if strings.HasPrefix(place, "http") {
		base, err := url.Parse(strings.TrimSuffix(place, "/") + "/")
		if err != nil {
			return err
		}
		if source, err = client.NewHTTPFetcher(base, nil); err != nil {
			return err
		}
	}
	return fsck.New(verifier.Name(), verifier, source, leaves, fsck.Opts{N: 4}).Check(context.Background())
}

func leaves(bundle []byte) ([][]byte, error) {
	parsed := api.EntryBundle{}
	if err := parsed.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(parsed.Entries))
	for _, entry := range parsed.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

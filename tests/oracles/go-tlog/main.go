// Command go-tlog is a second opinion on a Shuyu ledger directory. It shares no code with the ledger: trees, tiles,
// notes and proofs are those of golang.org/x/mod/sumdb, which checks the Go module ecosystem.
//
//	go-tlog DIR VKEY [OLDER-CHECKPOINT-FILE]
//	go-tlog bundle FILE
//
// It opens DIR/checkpoint with VKEY, proves every entry of every entry bundle against the signed root, checks that every
// tile of hashes is what the entries hash to, and, if an older checkpoint is given, proves that the log only grew.
//
// With `bundle` it judges an audit bundle (see judge.go) and prints a line for each conviction: kind, basis, accused.
//
// Exit status: 0 everything holds, 1 something does not hold, 2 usage or unreadable input.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// C2SP tiles have a height of 8 levels: 256 hashes.
const (
	height = 8
	width  = 1 << height
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "bundle" {
		os.Exit(judgeFile(os.Args[2]))
	}
	if len(os.Args) < 3 || len(os.Args) > 4 {
		fmt.Fprintln(os.Stderr, "usage: go-tlog DIR VKEY [OLDER-CHECKPOINT-FILE]")
		os.Exit(2)
	}
	older := ""
	if len(os.Args) == 4 {
		older = os.Args[3]
	}
	line, err := check(os.Args[1], os.Args[2], older)
	var fault *fault
	switch {
	case errors.As(err, &fault):
		fmt.Println("does not hold:", err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "unreadable:", err)
		os.Exit(2)
	}
	fmt.Println(line)
}

// fault is something the log is to blame for, as opposed to a file that cannot be read.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }

func faultf(format string, args ...interface{}) error {
	return &fault{fmt.Sprintf(format, args...)}
}

func check(dir, vkey, older string) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", fmt.Errorf("verifier key: %w", err)
	}
	tree, err := openCheckpoint(filepath.Join(dir, "checkpoint"), verifier)
	if err != nil {
		return "", err
	}
	reader := &tileReader{dir: dir, size: tree.N}
	source := tlog.TileHashReader(tree, reader)
	if err := checkEntries(dir, tree, source); err != nil {
		return "", err
	}
	if err := checkTiles(dir, tree); err != nil {
		return "", err
	}
	consistent := ""
	if older != "" {
		old, err := openCheckpoint(older, verifier)
		if err != nil {
			return "", err
		}
		if err := checkConsistency(tree, old, source); err != nil {
			return "", err
		}
		consistent = fmt.Sprintf(", consistent with size %d", old.N)
	}
	return fmt.Sprintf("holds: %d entries, root %s%s", tree.N, tree.Hash, consistent), nil
}

func openCheckpoint(path string, verifier note.Verifier) (tlog.Tree, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openTree(path, data, verifier)
}

// openTree opens a checkpoint's bytes; path names them in errors.
func openTree(path string, data []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, faultf("%s: %v", path, err)
	}
	// Go's tree text has a fixed first line; a checkpoint has the origin there, which must be the key's name.
	origin, rest, found := strings.Cut(opened.Text, "\n")
	if !found || origin != verifier.Name() {
		return tlog.Tree{}, faultf("%s: origin %q is not the key's name %q", path, origin, verifier.Name())
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	if err != nil {
		return tlog.Tree{}, faultf("%s: %v", path, err)
	}
	return tree, nil
}

// checkEntries proves every entry against the signed root through the tiles.
func checkEntries(dir string, tree tlog.Tree, source tlog.HashReader) error {
	for first := int64(0); first < tree.N; first += width {
		count := tree.N - first
		if count > width {
			count = width
		}
		name := bundleName(first/width, int(count))
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		entries, err := splitBundle(data, int(count))
		if err != nil {
			return faultf("%s: %v", name, err)
		}
		for i, entry := range entries {
			index := first + int64(i)
			proof, err := tlog.ProveRecord(tree.N, index, source)
			if err != nil {
				return faultf("entry %d: %v", index, err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				return faultf("entry %d: %v", index, err)
			}
		}
	}
	return nil
}

// checkTiles recomputes every tile of hashes from the entry bundles alone and compares it with the file.
func checkTiles(dir string, tree tlog.Tree) error {
	stored := &storedHashes{}
	for first := int64(0); first < tree.N; first += width {
		count := tree.N - first
		if count > width {
			count = width
		}
		data, err := os.ReadFile(filepath.Join(dir, bundleName(first/width, int(count))))
		if err != nil {
			return err
		}
		entries, err := splitBundle(data, int(count))
		if err != nil {
			return err
		}
		for i, entry := range entries {
			hashes, err := tlog.StoredHashes(first+int64(i), entry, stored)
			if err != nil {
				return err
			}
			stored.hashes = append(stored.hashes, hashes...)
		}
	}
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		want, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(dir, tileName(tile)))
		if err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			return faultf("%s is not what the entries hash to", tileName(tile))
		}
	}
	return nil
}

func checkConsistency(tree, old tlog.Tree, source tlog.HashReader) error {
	if old.N > tree.N {
		return faultf("the older checkpoint has %d entries, the newer %d", old.N, tree.N)
	}
	if old.N == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, old.N, source)
	if err != nil {
		return faultf("consistency: %v", err)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return faultf("consistency: %v", err)
	}
	return nil
}

type storedHashes struct{ hashes []tlog.Hash }

func (s *storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(s.hashes)) {
			return nil, fmt.Errorf("no stored hash %d", index)
		}
		found[i] = s.hashes[index]
	}
	return found, nil
}

// tileReader reads tiles by their C2SP names; TileHashReader checks them against the signed root.
type tileReader struct {
	dir  string
	size int64
}

func (r *tileReader) Height() int { return height }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(r.dir, tileName(tile)))
		if err != nil {
			return nil, err
		}
		read[i] = data
	}
	return read, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// tileName drops the height, which Go's names have and C2SP's do not: tile/8/0/001 is tile/0/001.
func tileName(tile tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
}

func bundleName(index int64, count int) string {
	tile := tlog.Tile{H: height, L: -1, N: index, W: count}
	return "tile/entries/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/data/", height))
}

func splitBundle(data []byte, count int) ([][]byte, error) {
	entries := make([][]byte, 0, count)
	for i := 0; i < count; i++ {
		if len(data) < 2 {
			return nil, fmt.Errorf("bundle ends before entry %d", i)
		}
		length := int(binary.BigEndian.Uint16(data))
		data = data[2:]
		if len(data) < length {
			return nil, fmt.Errorf("bundle ends inside entry %d", i)
		}
		entries = append(entries, data[:length])
		data = data[length:]
	}
	if len(data) != 0 {
		return nil, fmt.Errorf("%d bytes after the last entry", len(data))
	}
	return entries, nil
}

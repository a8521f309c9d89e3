package main

// Signed notes with cosignatures (C2SP signed-note, tlog-cosignature) and witness policies (tlog-policy), by crypto/ed25519.

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// signedNote is a note as it stands; nothing is verified.
type signedNote struct {
	text  string
	lines []noteLine
}

type noteLine struct {
	name string
	id   uint32
	sig  []byte
}

func parseNote(data string) (*signedNote, error) {
	cut := strings.LastIndex(data, "\n\n")
	if cut < 0 || !strings.HasSuffix(data, "\n") {
		return nil, errors.New("not a signed note")
	}
	parsed := &signedNote{text: data[:cut+1]}
	for _, line := range strings.Split(strings.TrimSuffix(data[cut+2:], "\n"), "\n") {
		name, encoded, found := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if !strings.HasPrefix(line, "— ") || !found || err != nil || len(raw) < 5 {
			return nil, fmt.Errorf("bad signature line %q", line)
		}
		parsed.lines = append(parsed.lines, noteLine{name, binary.BigEndian.Uint32(raw), raw[4:]})
	}
	return parsed, nil
}

// head is what the text of a checkpoint says.
type head struct {
	origin string
	tree   tlog.Tree
}

func parseHead(text string) (head, error) {
	origin, rest, _ := strings.Cut(text, "\n")
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	return head{origin, tree}, err
}

// verifierKey is a key under its name: of a witness with kind 4, of a log with kind 1.
type verifierKey struct {
	text string
	name string
	id   uint32
	key  ed25519.PublicKey
}

func parseVerifierKey(text string, kind byte) (verifierKey, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return verifierKey{}, errors.New("not a verifier key")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != kind {
		return verifierKey{}, fmt.Errorf("not an Ed25519 key of type %d", kind)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), raw...))
	id := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", id) != parts[1] {
		return verifierKey{}, errors.New("the key id is not that of the key")
	}
	return verifierKey{text, parts[0], id, raw[1:]}, nil
}

// times are the times of every cosignature of the witness on the note; bad is set if a line does not verify.
func (w verifierKey) times(n *signedNote) (times []uint64, bad bool) {
	for _, line := range n.lines {
		if line.name != w.name || line.id != w.id {
			continue
		}
		if len(line.sig) != 8+ed25519.SignatureSize {
			bad = true
			continue
		}
		time := binary.BigEndian.Uint64(line.sig)
		if !ed25519.Verify(w.key, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, n.text)), line.sig[8:]) {
			bad = true
			continue
		}
		times = append(times, time)
	}
	return times, bad
}

// policy says which witnesses make a quorum.
type policy struct {
	witnesses []verifierKey
	names     map[string]func(has []bool) bool
	quorum    string
}

func parsePolicy(text string) (*policy, error) {
	read := &policy{names: map[string]func([]bool) bool{}}
	for _, line := range strings.Split(text, "\n") {
		items := strings.Fields(line)
		if len(items) == 0 || strings.HasPrefix(items[0], "#") || items[0] == "log" {
			continue
		}
		switch {
		case items[0] == "witness" && len(items) >= 3:
			key, err := parseVerifierKey(items[2], 4)
			if err != nil {
				return nil, err
			}
			at := len(read.witnesses)
			read.witnesses = append(read.witnesses, key)
			read.names[items[1]] = func(has []bool) bool { return has[at] }
		case items[0] == "group" && len(items) >= 4:
			if err := read.group(items[1], items[2], items[3:]); err != nil {
				return nil, err
			}
		case items[0] == "quorum" && len(items) == 2:
			read.quorum = items[1]
		default:
			return nil, fmt.Errorf("policy line %q", line)
		}
	}
	if read.quorum != "none" && read.names[read.quorum] == nil {
		return nil, errors.New("policy without quorum")
	}
	return read, nil
}

func (p *policy) group(name, threshold string, members []string) error {
	needed, err := strconv.Atoi(threshold)
	switch {
	case threshold == "any":
		needed = 1
	case threshold == "all":
		needed = len(members)
	case err != nil:
		return err
	}
	var tests []func([]bool) bool
	for _, member := range members {
		if p.names[member] == nil {
			return fmt.Errorf("unknown member %q", member)
		}
		tests = append(tests, p.names[member])
	}
	p.names[name] = func(has []bool) bool {
		count := 0
		for _, test := range tests {
			if test(has) {
				count++
			}
		}
		return count >= needed
	}
	return nil
}

// existedBy and newestAt: the smallest time by which, and the largest from which on, the cosignatures make the quorum.
func (p *policy) existedBy(note string) (uint64, bool) {
	return p.bound(note, false)
}

func (p *policy) newestAt(note string) (uint64, bool) {
	return p.bound(note, true)
}

func (p *policy) bound(text string, newest bool) (uint64, bool) {
	if p == nil || p.quorum == "none" {
		return 0, false
	}
	n, err := parseNote(text)
	if err != nil {
		return 0, false
	}
	latest, known := make([]uint64, len(p.witnesses)), make([]bool, len(p.witnesses))
	var all []uint64
	for i, witness := range p.witnesses {
		times, bad := witness.times(n)
		if bad {
			return 0, false
		}
		for _, time := range times {
			if !known[i] || time > latest[i] {
				latest[i], known[i] = time, true
			}
		}
		if known[i] {
			all = append(all, latest[i])
		}
	}
	sort.Slice(all, func(i, j int) bool { return (all[i] < all[j]) != newest })
	for _, limit := range all {
		has := make([]bool, len(known))
		for i := range known {
			has[i] = known[i] && (newest && latest[i] >= limit || !newest && latest[i] <= limit)
		}
		if p.names[p.quorum](has) {
			return limit, true
		}
	}
	return 0, false
}

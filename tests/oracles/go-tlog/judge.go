package main

// A second judgement over audit bundles, written from the description in ledger/evidence/src/bundle.rs alone: proofs by
// golang.org/x/mod/sumdb/tlog, signatures by crypto/ed25519 and crypto/ecdsa. The comparison of two parties' accounts
// (disagreement) is not repeated here.

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The tolerances of the format, in seconds.
const (
	outboxTolerance  = 3600
	absenceTolerance = 86400
	clockTolerance   = 300
)

const (
	signed   = "signed-by-accused"
	cosigned = "cosigned-by-quorum"
	served   = "served-to-auditor"
)

// judgement collects convictions: "kind basis accused".
type judgement struct {
	bundle *bundleFile
	policy *policy
	nodes  []*judgedNode
	found  map[string]bool
}

// judgedHead is a head that the log signed.
type judgedHead struct {
	tree tlog.Tree
	note string
}

// judgedEntry is an entry that stands in a head.
type judgedEntry struct {
	bytes []byte
	heads []judgedHead
}

type judgedStatement struct {
	*statement
	index int64
	at    int64
	key   documentKey
}

// fact is what a head says about a smaller tree.
type fact struct {
	of   head
	size int64
	root tlog.Hash
}

type judgedNode struct {
	file       *nodeFile
	verifier   note.Verifier
	keys       map[string]documentKey
	heads      []judgedHead
	entries    map[int64]*judgedEntry
	statements []judgedStatement
	facts      []fact
	whole      int64 // entries of the whole log, -1 without it
}

// judgeFile prints the convictions of a bundle. Exit status: 0 none, 1 some, 2 unreadable.
func judgeFile(path string) int {
	data, err := os.ReadFile(path)
	var lines []string
	if err == nil {
		lines, err = judge(data)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "unreadable:", err)
		return 2
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	if len(lines) != 0 {
		return 1
	}
	fmt.Println("holds")
	return 0
}

func judge(data []byte) ([]string, error) {
	bundle, err := readBundle(data)
	if err != nil {
		return nil, err
	}
	j := &judgement{bundle: bundle, found: map[string]bool{}}
	if bundle.Policy != "" {
		if j.policy, err = parsePolicy(bundle.Policy); err != nil {
			return nil, err
		}
	}
	for i := range bundle.Nodes {
		node, err := j.node(&bundle.Nodes[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", bundle.Nodes[i].DID, err)
		}
		j.nodes = append(j.nodes, node)
	}
	j.omitted()
	j.witnesses()
	var lines []string
	for line := range j.found {
		lines = append(lines, line)
	}
	sort.Strings(lines)
	return lines, nil
}

func (j *judgement) convict(kind, basis, who string) {
	j.found[kind+" "+basis+" "+who] = true
}

func (j *judgement) node(file *nodeFile) (*judgedNode, error) {
	keys, err := documentKeys(file.Document, file.DID)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(file.Vkey)
	if err != nil {
		return nil, err
	}
	logKey, err := parseVerifierKey(file.Vkey, 1)
	if err != nil {
		return nil, err
	}
	own := false
	for _, key := range keys {
		own = own || string(key.ed) == string(logKey.key)
	}
	if !own {
		return nil, errors.New("the log's key is not in the document")
	}
	n := &judgedNode{file: file, verifier: verifier, keys: keys, entries: map[int64]*judgedEntry{}, whole: -1}
	for _, step := range []func(*judgedNode) error{
		j.observed, j.picked, j.prefixes, j.heads, j.wholeLog, j.statements, j.sequences, j.times, j.keysLeft, j.promises,
	} {
		if err := step(n); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *judgedNode) open(checkpoint string) (judgedHead, error) {
	tree, err := openTree("checkpoint", []byte(checkpoint), n.verifier)
	return judgedHead{tree, checkpoint}, err
}

func (j *judgement) observed(n *judgedNode) error {
	largest := int64(-1)
	for _, seen := range n.file.Observed {
		opened, err := n.open(seen.Checkpoint)
		if err != nil {
			if parsed, bad := parseNote(seen.Checkpoint); bad != nil {
				return bad
			} else if _, bad := parseHead(parsed.text); bad != nil {
				return bad
			}
			j.convict("bad-signature", served, n.file.DID)
			continue
		}
		if opened.tree.N < largest {
			j.convict("rollback", served, n.file.DID)
		}
		if opened.tree.N > largest {
			largest = opened.tree.N
		}
		n.heads = append(n.heads, opened)
	}
	for _, loose := range j.bundle.Heads {
		if opened, err := n.open(loose); err == nil {
			n.heads = append(n.heads, opened)
		}
	}
	return nil
}

// proofFile is a file of an index, hashes and a note under a first line.
func proofFile(text, header string) (index int64, hashes []tlog.Hash, rest string, err error) {
	top, rest, found := strings.Cut(text, "\n\n")
	lines := strings.Split(top, "\n")
	if !found || len(lines) < 2 || lines[0] != header || !strings.HasPrefix(lines[1], "index ") {
		return 0, nil, "", errors.New("not a proof file")
	}
	if index, err = strconv.ParseInt(lines[1][len("index "):], 10, 64); err != nil {
		return 0, nil, "", err
	}
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, "", err
		}
		hashes = append(hashes, hash)
	}
	return index, hashes, rest, nil
}

func (j *judgement) picked(n *judgedNode) error {
	for _, one := range n.file.Picked {
		index, proof, checkpoint, err := proofFile(one.Proof, "c2sp.org/tlog-proof@v1")
		if err != nil {
			return err
		}
		opened, err := n.open(checkpoint)
		if err != nil {
			j.convict("bad-signature", served, n.file.DID)
			continue
		}
		leaf := tlog.RecordHash(one.Entry)
		if index >= opened.tree.N || tlog.CheckRecord(proof, opened.tree.N, opened.tree.Hash, index, leaf) != nil {
			j.convict("altered", served, n.file.DID)
			continue
		}
		n.heads = append(n.heads, opened)
		j.take(n, index, one.Entry, opened)
	}
	return nil
}

func (j *judgement) take(n *judgedNode, index int64, entry []byte, in judgedHead) {
	known := n.entries[index]
	if known == nil {
		known = &judgedEntry{bytes: entry}
		n.entries[index] = known
	}
	if string(known.bytes) != string(entry) {
		j.convict("altered", signed, n.file.DID)
		return
	}
	known.heads = append(known.heads, in)
}

func (j *judgement) prefixes(n *judgedNode) error {
	for _, one := range n.file.Prefixes {
		opened, err := n.open(one.Head)
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(one.Size, 10, 64)
		if err != nil || len(one.Root) != tlog.HashSize {
			return errors.New("bad prefix")
		}
		var proof tlog.TreeProof
		for _, hash := range one.Hashes {
			if len(hash) != tlog.HashSize {
				return errors.New("bad hash in a prefix")
			}
			proof = append(proof, hashOf(hash))
		}
		root := hashOf(one.Root)
		if err := tlog.CheckTree(proof, opened.tree.N, opened.tree.Hash, size, root); err != nil {
			return err
		}
		n.heads = append(n.heads, opened)
		n.facts = append(n.facts, fact{head{n.verifier.Name(), opened.tree}, size, root})
	}
	return nil
}

func hashOf(raw []byte) (hash tlog.Hash) {
	copy(hash[:], raw)
	return hash
}

func (j *judgement) heads(n *judgedNode) error {
	for i, one := range n.heads {
		for _, other := range n.heads[:i] {
			if one.tree.N == other.tree.N && one.tree.Hash != other.tree.Hash {
				j.convict("fork", signed, n.file.DID)
			}
		}
	}
	j.inconsistent(n)
	return nil
}

func (j *judgement) inconsistent(n *judgedNode) {
	for _, f := range n.facts {
		for _, small := range n.heads {
			if small.tree.N == f.size && small.tree.Hash != f.root {
				j.convict("inconsistent", signed, n.file.DID)
			}
		}
	}
}

// wholeLog proves all entries up to the largest head, if the node's files hold them.
func (j *judgement) wholeLog(n *judgedNode) error {
	var top judgedHead
	for _, one := range n.heads {
		if one.tree.N > top.tree.N {
			top = one
		}
	}
	if len(n.heads) == 0 || !hasEntries(n.file) && top.tree.N != 0 {
		return nil
	}
	stored, roots := &storedHashes{}, map[int64]tlog.Hash{}
	var entries [][]byte
	for first := int64(0); first < top.tree.N; first += width {
		count := top.tree.N - first
		if count > width {
			count = width
		}
		read, err := bundleOf(n.file, first/width, int(count))
		if err != nil {
			var fault *fault
			if errors.As(err, &fault) {
				j.convict("altered", served, n.file.DID)
				return nil
			}
			return err
		}
		for _, entry := range read {
			hashes, err := tlog.StoredHashes(int64(len(entries)), entry, stored)
			if err != nil {
				return err
			}
			stored.hashes = append(stored.hashes, hashes...)
			entries = append(entries, entry)
		}
	}
	for _, one := range n.heads {
		root, err := tlog.TreeHash(one.tree.N, stored)
		if err != nil {
			return err
		}
		if one.tree.N == 0 {
			// RFC 6962 section 2.1; the Go package leaves the empty tree without a hash.
			root = sha256.Sum256(nil)
		}
		roots[one.tree.N] = root
	}
	matches := false
	for _, one := range n.heads {
		matches = matches || one.tree.N == top.tree.N && one.tree.Hash == roots[top.tree.N]
	}
	if !matches {
		j.convict("altered", served, n.file.DID)
		return nil
	}
	n.whole = top.tree.N
	for _, one := range n.heads {
		if roots[one.tree.N] != one.tree.Hash {
			of := head{n.verifier.Name(), tlog.Tree{N: top.tree.N, Hash: roots[top.tree.N]}}
			n.facts = append(n.facts, fact{of, one.tree.N, roots[one.tree.N]})
		}
	}
	j.inconsistent(n)
	for i, entry := range entries {
		for _, one := range n.heads {
			if int64(i) < one.tree.N && one.tree.Hash == roots[one.tree.N] {
				j.take(n, int64(i), entry, one)
			}
		}
	}
	return nil
}

func hasEntries(file *nodeFile) bool {
	for name := range file.Files {
		if strings.HasPrefix(name, "tile/entries/") {
			return true
		}
	}
	return false
}

// bundleOf reads the first count entries of a bundle that is at least so wide.
func bundleOf(file *nodeFile, index int64, count int) ([][]byte, error) {
	for wide := count; wide <= width; wide++ {
		if data, found := file.Files[bundleName(index, wide)]; found {
			entries, err := splitBundle(data, wide)
			if err != nil {
				return nil, faultf("%v", err)
			}
			return entries[:count], nil
		}
	}
	return nil, fmt.Errorf("%s is not there", bundleName(index, count))
}

func (j *judgement) statements(n *judgedNode) error {
	var indexes []int64
	for index := range n.entries {
		indexes = append(indexes, index)
	}
	sort.Slice(indexes, func(a, b int) bool { return indexes[a] < indexes[b] })
	seen := map[string]bool{}
	for _, index := range indexes {
		said, at, key, err := openEntry(n.entries[index].bytes, n.keys)
		if errors.Is(err, errSuite) {
			return err
		}
		if err != nil || said.By != n.file.DID {
			j.convict("bad-statement", signed, n.file.DID)
			continue
		}
		identity := said.Act + "|" + said.Process + "|" + said.Seq.String() + "|" + said.Event
		if seen[identity] {
			j.convict("replayed", signed, n.file.DID)
			continue
		}
		seen[identity] = true
		n.statements = append(n.statements, judgedStatement{said, index, at, key})
	}
	return nil
}

// bound is a head stated at an index; it did not exist before time.
type bound struct {
	index int64
	time  uint64
}

func (j *judgement) bounds(n *judgedNode) []bound {
	notes := map[string]string{}
	for _, loose := range j.bundle.Heads {
		notes[digest([]byte(loose))] = loose
	}
	var bounds []bound
	for _, said := range n.statements {
		stated := said.Kind == "ledger.witnessed-head" || said.Kind == "ledger.foreign-head"
		if text, found := notes[said.Event]; found && stated && said.Act == "observed" {
			if time, ok := j.policy.newestAt(text); ok {
				bounds = append(bounds, bound{said.index, time})
			}
		}
	}
	return bounds
}

// absentUntil is the latest time at which the quorum knew nothing newer than a head without the index.
func (j *judgement) absentUntil(n *judgedNode, index int64) (latest uint64) {
	for _, one := range n.heads {
		if time, ok := j.policy.newestAt(one.note); ok && one.tree.N <= index && time > latest {
			latest = time
		}
	}
	return latest
}

func (j *judgement) earliest(n *judgedNode, index int64) (uint64, bool) {
	best, known := uint64(0), false
	if entry := n.entries[index]; entry != nil {
		for _, one := range entry.heads {
			if time, ok := j.policy.existedBy(one.note); ok && (!known || time < best) {
				best, known = time, true
			}
		}
	}
	return best, known
}

func (j *judgement) times(n *judgedNode) error {
	bounds := j.bounds(n)
	for _, said := range n.statements {
		claimed := uint64(0)
		if said.at > 0 {
			claimed = uint64(said.at)
		}
		for _, b := range bounds {
			if b.index < said.index && b.time > claimed+outboxTolerance {
				j.convict("back-dated", cosigned, n.file.DID)
			}
		}
		if j.absentUntil(n, said.index) > claimed+absenceTolerance {
			j.convict("back-dated", cosigned, n.file.DID)
		}
		if by, known := j.earliest(n, said.index); known && claimed > by+clockTolerance {
			j.convict("pre-made", cosigned, n.file.DID)
		}
	}
	return nil
}

func (j *judgement) keysLeft(n *judgedNode) error {
	left := map[string]int64{}
	for _, said := range n.statements {
		if _, gone := left[said.key.thumb]; gone {
			j.convict("revoked-key", signed, n.file.DID)
		}
		if from := said.Commit["from"]; said.Kind == "key.succession" && said.Act == "published" && from != "" {
			if _, known := left[from]; !known {
				left[from] = said.index
			}
		}
	}
	logKey, err := parseVerifierKey(n.file.Vkey, 1)
	if err != nil {
		return err
	}
	thumb := readKey(jwk{Kty: "OKP", Crv: "Ed25519", X: base64.RawURLEncoding.EncodeToString(logKey.key)}).thumb
	if at, gone := left[thumb]; gone {
		sizes := map[int64]bool{}
		for _, one := range n.heads {
			if one.tree.N > at {
				sizes[one.tree.N] = true
			}
		}
		if len(sizes) > 1 {
			j.convict("revoked-key", signed, n.file.DID)
		}
	}
	return nil
}

func (j *judgement) promises(n *judgedNode) error {
	for _, one := range n.file.Promises {
		index, deadline, err := n.promised(one)
		if err != nil {
			return fmt.Errorf("promise: %w", err)
		}
		if entry := n.entries[index]; entry != nil {
			if string(entry.bytes) != string(one.Entry) {
				j.convict("dropped", signed, n.file.DID)
			}
		} else if j.absentUntil(n, index) > deadline+absenceTolerance {
			j.convict("dropped", cosigned, n.file.DID)
		}
	}
	return nil
}

// promised verifies a promise and returns the place and the deadline.
func (n *judgedNode) promised(one pickedFile) (int64, uint64, error) {
	index, path, text, err := proofFile(one.Proof, "w3id.org/shuyu/promise-proof/v1")
	if err != nil {
		return 0, 0, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(n.verifier))
	if err != nil {
		return 0, 0, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 6 || lines[0] != "w3id.org/shuyu/promise/v1" || lines[1] != n.verifier.Name() {
		return 0, 0, errors.New("not a promise of this log")
	}
	var first, count int64
	if _, err := fmt.Sscanf(lines[2], "%d %d", &first, &count); err != nil {
		return 0, 0, err
	}
	root, err := tlog.ParseHash(lines[3])
	if err != nil {
		return 0, 0, err
	}
	deadline, err := strconv.ParseUint(lines[4], 10, 63)
	if err != nil {
		return 0, 0, err
	}
	if index < first || index-first >= count {
		return 0, 0, errors.New("the entry is outside the promised batch")
	}
	return index, deadline, tlog.CheckRecord(path, count, root, index-first, tlog.RecordHash(one.Entry))
}

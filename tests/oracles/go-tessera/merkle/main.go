// Command merkle judges Merkle proofs, one a line, with the reference implementation that Certificate Transparency's logs and
// Tessera use. It prints `ok` or `no` for each.
//
//	inclusion INDEX SIZE LEAF-HASH ROOT [HASH ...]
//	consistency OLD NEW OLD-ROOT NEW-ROOT [HASH ...]
//
// Hashes are in hex; `-` is an empty one.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if judge(strings.Fields(lines.Text())) {
			fmt.Println("ok")
		} else {
			fmt.Println("no")
		}
	}
}

func judge(fields []string) bool {
	if len(fields) < 5 {
		return false
	}
	a, errA := strconv.ParseUint(fields[1], 10, 64)
	b, errB := strconv.ParseUint(fields[2], 10, 64)
	if errA != nil || errB != nil {
		return false
	}
	hashes := make([][]byte, 0, len(fields))
	for _, field := range fields[3:] {
		hash, err := hex.DecodeString(strings.Trim(field, "-"))
		if err != nil {
			return false
		}
		hashes = append(hashes, hash)
	}
	first, second, path := hashes[0], hashes[1], hashes[2:]
	if fields[0] == "inclusion" {
		return proof.VerifyInclusion(rfc6962.DefaultHasher, a, b, first, path, second) == nil
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, a, b, path, first, second) == nil
}

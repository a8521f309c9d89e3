package main

// The audit bundle as a file, version 1 or 2: one JSON object; see ledger/evidence/src/bundle/v2.rs.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

type bundleFile struct {
	Format  string     `json:"format"`
	Version int        `json:"version"`
	MadeAt  string     `json:"made_at"`
	Policy  string     `json:"policy"`
	Heads   []string   `json:"heads"`
	Nodes   []nodeFile `json:"nodes"`
}

type nodeFile struct {
	DID      string            `json:"did"`
	Document json.RawMessage   `json:"document"`
	Vkey     string            `json:"vkey"`
	Observed []observedFile    `json:"observed"`
	Files    map[string][]byte `json:"files"`
	Picked   []pickedFile      `json:"picked"`
	Promises []pickedFile      `json:"promises"`
	Prefixes []prefixFile      `json:"prefixes"`
	Receipts []string          `json:"receipts"`
}

type observedFile struct {
	At         string `json:"at"`
	Checkpoint string `json:"checkpoint"`
}

type pickedFile struct {
	Entry []byte `json:"entry"`
	Proof string `json:"proof"`
}

type prefixFile struct {
	Head   string   `json:"head"`
	Size   string   `json:"size"`
	Root   []byte   `json:"root"`
	Hashes [][]byte `json:"hashes"`
}

func readBundle(data []byte) (*bundleFile, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	bundle := &bundleFile{}
	if err := decoder.Decode(bundle); err != nil {
		return nil, err
	}
	if bundle.Format != "shuyu-evidence-bundle" || bundle.Version < 1 || bundle.Version > 2 {
		return nil, errors.New("not a bundle of version 1 or 2")
	}
	return bundle, nil
}

// errSuite is returned for signatures of keys of other suites than Ed25519 and P-256: nothing can be said about them here.
var errSuite = errors.New("a key of a suite that this oracle does not know")

// documentKey is a key of a DID document, of Ed25519 or P-256; both are nil for another suite.
type documentKey struct {
	ed    ed25519.PublicKey
	p256  *ecdsa.PublicKey
	thumb string
}

type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// documentKeys reads the keys of a DID document by the ids of their methods.
func documentKeys(raw json.RawMessage, did string) (map[string]documentKey, error) {
	var document struct {
		ID      string `json:"id"`
		Methods []struct {
			ID  string `json:"id"`
			Jwk jwk    `json:"publicKeyJwk"`
		} `json:"verificationMethod"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, err
	}
	if document.ID != did {
		return nil, fmt.Errorf("the document given for %s is not its own", did)
	}
	keys := map[string]documentKey{}
	for _, method := range document.Methods {
		keys[method.ID] = readKey(method.Jwk)
	}
	return keys, nil
}

func readKey(key jwk) documentKey {
	x, errX := base64.RawURLEncoding.DecodeString(key.X)
	y, errY := base64.RawURLEncoding.DecodeString(key.Y)
	// RFC 7638: the required members in the order of their names.
	switch {
	case key.Kty == "OKP" && key.Crv == "Ed25519" && errX == nil && len(x) == ed25519.PublicKeySize:
		text := fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, key.X)
		return documentKey{ed: x, thumb: digest([]byte(text))}
	case key.Kty == "EC" && key.Crv == "P-256" && errX == nil && errY == nil:
		text := fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, key.X, key.Y)
		point := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
		return documentKey{p256: point, thumb: digest([]byte(text))}
	}
	return documentKey{}
}

func digest(data []byte) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data))
}

// openJWS verifies a compact JWS with the key that its kid names; it returns the payload, the type and the key.
func openJWS(compact string, keys map[string]documentKey) ([]byte, string, documentKey, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, "", documentKey{}, errors.New("not three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		bytes, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return nil, "", documentKey{}, err
		}
		decoded[i] = bytes
	}
	var header struct{ Alg, Kid, Typ string }
	if err := json.Unmarshal(decoded[0], &header); err != nil {
		return nil, "", documentKey{}, err
	}
	key, known := keys[header.Kid]
	if known && key.ed == nil && key.p256 == nil {
		return nil, "", key, errSuite
	}
	signed := []byte(parts[0] + "." + parts[1])
	good := false
	switch {
	case key.ed != nil && header.Alg == "EdDSA":
		good = ed25519.Verify(key.ed, signed, decoded[2])
	case key.p256 != nil && header.Alg == "ES256" && len(decoded[2]) == 64:
		sum := sha256.Sum256(signed)
		r, s := new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])
		good = ecdsa.Verify(key.p256, sum[:], r, s)
	}
	if !good {
		return nil, "", documentKey{}, fmt.Errorf("no signature of a known key (kid %q)", header.Kid)
	}
	return decoded[1], header.Typ, key, nil
}

// statement is what an entry says; members that no judgement here needs are left out.
type statement struct {
	Kind    string            `json:"kind"`
	Act     string            `json:"act"`
	Process string            `json:"process"`
	Seq     json.Number       `json:"seq"`
	By      string            `json:"by"`
	With    string            `json:"with"`
	At      string            `json:"at"`
	Event   string            `json:"event"`
	Commit  map[string]string `json:"commit"`
}

// openEntry opens a ledger entry; the time is in seconds.
func openEntry(entry []byte, keys map[string]documentKey) (*statement, int64, documentKey, error) {
	payload, typ, key, err := openJWS(string(entry), keys)
	if err != nil {
		return nil, 0, key, err
	}
	if typ != "shuyu-evidence+jws" {
		return nil, 0, key, errors.New("not an entry")
	}
	said := &statement{}
	if err := json.Unmarshal(payload, said); err != nil {
		return nil, 0, key, err
	}
	at, err := time.Parse(time.RFC3339Nano, said.At)
	if err != nil {
		return nil, 0, key, err
	}
	return said, at.Unix(), key, nil
}

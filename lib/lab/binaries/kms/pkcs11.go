package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// token has its keys in a token of PKCS#11: Primary_key encrypts, Secondary_key decrypts too. The id of a key is its CKA_ID, as a UUID. One
// session behind a lock does: API servers ask for seeds, and not for each object.
type token struct {
	mutex      sync.Mutex
	module     *pkcs11.Ctx
	label, pin string
	// Labels of keys: the first one encrypts.
	labels  []string
	session pkcs11.SessionHandle
	keys    []tokenKey
	// Why the token is not asked any more: a PIN that was refused once is not tried again.
	refused error
}

type tokenKey struct {
	id     string
	handle pkcs11.ObjectHandle
}

const (
	ivLength  = 12
	tagLength = 128
)

func openToken(attributes map[string]string) (backend, error) {
	values, err := required(attributes, "Library", "Token", "Pin_file", "Primary_key")
	if err != nil {
		return nil, err
	}
	pin, err := os.ReadFile(values[2])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	module := pkcs11.New(values[0])
	if module == nil {
		return nil, fmt.Errorf("%w: %s can't be loaded", errConfig, values[0])
	}
	if err := module.Initialize(); err != nil {
		return nil, err
	}
	opened := &token{module: module, label: values[1], pin: strings.TrimSpace(string(pin)), labels: []string{values[3]}}
	if secondary := attributes["Secondary_key"]; secondary != "" && secondary != values[3] {
		opened.labels = append(opened.labels, secondary)
	}
	if err := opened.login(); err != nil {
		return nil, err
	}
	return opened, nil
}

// login opens the session, and finds the keys by their labels.
func (t *token) login() error {
	if t.refused != nil {
		return t.refused
	}
	slot, err := t.slot()
	if err != nil {
		return err
	}
	if t.session, err = t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return err
	}
	err = t.module.Login(t.session, pkcs11.CKU_USER, t.pin)
	if isOfPIN(err) {
		t.refused = fmt.Errorf("%w: the token %s refuses the PIN, which is not tried again: %w", errConfig, t.label, err)
		return t.refused
	}
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return err
	}
	t.keys = nil
	for _, label := range t.labels {
		found, err := t.find(label)
		if err != nil {
			return err
		}
		t.keys = append(t.keys, found)
	}
	return nil
}

// isOfPIN tells a PIN that was refused from a token that is away: that one is asked again.
func isOfPIN(err error) bool {
	for _, code := range []uint{
		pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
	} {
		if errors.Is(err, pkcs11.Error(code)) {
			return true
		}
	}
	return false
}

func (t *token) slot() (uint, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := t.module.GetTokenInfo(slot); err == nil && strings.TrimRight(info.Label, " \x00") == t.label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("there is no token %s", t.label)
}

// find returns the one secret key of a label. Of two, nobody could say which one encrypts.
func (t *token) find(label string) (tokenKey, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	if err := t.module.FindObjectsInit(t.session, template); err != nil {
		return tokenKey{}, err
	}
	handles, _, err := t.module.FindObjects(t.session, 2)
	if final := t.module.FindObjectsFinal(t.session); err == nil {
		err = final
	}
	if err != nil {
		return tokenKey{}, err
	}
	if len(handles) != 1 {
		return tokenKey{}, fmt.Errorf("%w: the token %s has %d keys with the label %s, and must have one", errConfig, t.label, len(handles), label)
	}
	attributes, err := t.module.GetAttributeValue(t.session, handles[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
	if err != nil {
		return tokenKey{}, err
	}
	id := hex.EncodeToString(attributes[0].Value)
	if len(id) != 32 {
		return tokenKey{}, fmt.Errorf("%w: the id of the key %s is no UUID: %s", errConfig, label, id)
	}
	return tokenKey{strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-"), handles[0]}, nil
}

// anew does something with the token, and logs in again where the session has ended.
func (t *token) anew(do func() error) error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	err := do()
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_USER_NOT_LOGGED_IN:
		// What is left of the session is of no use.
		_ = t.module.CloseSession(t.session)
		if err := t.login(); err != nil {
			return err
		}
		return do()
	}
	return err
}

func (t *token) encrypt(_ context.Context, plaintext []byte) (ciphertext []byte, id string, err error) {
	iv := make([]byte, ivLength)
	if _, err := rand.Read(iv); err != nil {
		return nil, "", err
	}
	err = t.anew(func() error {
		key := t.keys[0]
		parameters := pkcs11.NewGCMParams(iv, []byte(key.id), tagLength)
		defer parameters.Free()
		if err := t.module.EncryptInit(t.session, mechanism(parameters), key.handle); err != nil {
			return err
		}
		sealed, err := t.module.Encrypt(t.session, plaintext)
		// A token may choose the initial value itself.
		ciphertext, id = append(append([]byte{}, parameters.IV()...), sealed...), key.id
		return err
	})
	return ciphertext, id, err
}

func (t *token) decrypt(_ context.Context, ciphertext []byte, keyID string) (plaintext []byte, err error) {
	if len(ciphertext) < ivLength {
		return nil, errors.New("the ciphertext is too short")
	}
	err = t.anew(func() error {
		for _, key := range t.keys {
			if key.id != keyID {
				continue
			}
			parameters := pkcs11.NewGCMParams(ciphertext[:ivLength], []byte(key.id), tagLength)
			defer parameters.Free()
			if err := t.module.DecryptInit(t.session, mechanism(parameters), key.handle); err != nil {
				return err
			}
			plaintext, err = t.module.Decrypt(t.session, ciphertext[ivLength:])
			return err
		}
		return fmt.Errorf("the key %q is neither Primary_key nor Secondary_key", keyID)
	})
	return plaintext, err
}

func mechanism(parameters *pkcs11.GCMParams) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, parameters)}
}

//go:build !linux

package netns

import "errors"

func within(string, func() error) error {
	return errors.New("network namespaces are Linux's")
}

// Package directory is the directory as mail sees it: entries, an immutable snapshot of them, and the expansion of addresses.
package directory

//go:build acceptance && !race

package main

const raceDetector = false

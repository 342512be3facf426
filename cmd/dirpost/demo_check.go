package main

import "context"

func (d *demo) selfCheck(ctx context.Context) error { return nil }
func (d *demo) report()                             {}

package main

import "context"

func sendmail(ctx context.Context, args []string, std streams) int { return 75 }

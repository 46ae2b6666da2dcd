package media

// Tables of ITU-T Recommendation G.722 (11/88). The table numbers are the
// Recommendation's.

// qmf is every second coefficient of the 24-tap filter, which is symmetric
// (table 11, 13-bit integers).
var qmf = [12]int32{3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11}

// lowSteps are the decision levels of the low band's quantiser (table 14, Q6).
var lowSteps = [30]int32{
	0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650,
	714, 786, 858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
}

// lowValues are the outputs of the low band's 4-bit inverse quantiser, which the
// predictor follows (table 17, QQ4, by code).
var lowValues = [16]int32{
	0, -20456, -12896, -8968, -6288, -4240, -2584, -1200,
	20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
}

// lowScale moves the low band's logarithmic scale factor (WL, by code).
var lowScale = [16]int32{
	-60, 3042, 1198, 538, 334, 172, 58, -30,
	3042, 1198, 538, 334, 172, 58, -30, -60,
}

// highValues are the outputs of the high band's inverse quantiser (QQ2, by code).
var highValues = [4]int32{-7408, -1616, 7408, 1616}

// highScale moves the high band's logarithmic scale factor (WH, by code).
var highScale = [4]int32{798, -214, 798, -214}

// exponents are 2048 times 2^(i/32), rounded down (ILB).
var exponents = [32]int32{
	2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
	2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
}
